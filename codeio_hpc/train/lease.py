"""Who trains a stage: one start at a time, also of those that know nothing of each other.

Each start makes the next ``lease-NNNN.json`` in the stage's folder, and only that of the highest number counts. Nothing
is relied on but that link() fails where the name exists, and does so for all hosts (POSIX; NFS, Lustre and GPFS keep
it). flock() would be lost together with its process, but file systems of clusters do without it (NFS without lockd,
Lustre without -o flock) or have it within one host only (-o localflock).
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.causes import SILENCE
from codeio_hpc.tables.files import publish_file


@dataclass
class Holder:
    """The process of rank 0 that trains, or trained, a stage."""

    host: str
    machine: str
    """Tells where process ids mean the same: boot of the kernel, and namespace; hosts of a cloud share names."""
    pid: int
    process: str
    """When it began, in ticks since the boot: process ids come again."""
    job: str | None
    """SLURM's."""
    restart: int
    """How often SLURM has requeued that."""
    began: float
    saved: float
    """Its last sign of life. This and ``began`` are seconds since the epoch; munge, which SLURM authenticates by, keeps
    the clocks of a cluster closer to each other than :data:`codeio_hpc.launch.causes.SILENCE`."""
    ended: bool = False

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(
            host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process=_process(os.getpid()) or "",
            job=os.environ.get("SLURM_JOB_ID"),
            restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            began=time.time(),
            saved=time.time(),
        )

    def is_at_work(self) -> bool:
        """Whether it still trains, as far as this process can tell; for what was killed, no."""
        if self.ended:
            return False
        if self.machine == _machine():
            return _process(self.pid) == self.process
        if self.job is not None and self.job == os.environ.get("SLURM_JOB_ID"):
            if self.restart < int(os.environ.get("SLURM_RESTART_COUNT", "0")):
                return False
        elif self.job is not None and not _is_at_work(self.job):
            return False
        return time.time() - self.saved < SILENCE


class Lease:
    """The right to train a stage, until it is ended or this process is gone."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._holder = Holder.here()

    @property
    def _path(self) -> Path:
        return _path_of(self._folder, self._number)

    def _publish(self, exclusive: bool = False) -> None:
        text = json.dumps(asdict(self._holder), indent=1) + "\n"
        publish_file(self._path, text.encode("utf-8"), exclusive=exclusive)

    def claim(self) -> bool:
        """Whether no other start was faster."""
        try:
            self._publish(exclusive=True)
        except FileExistsError:
            return False
        if self.is_lost():  # it was taken, and its file removed, since this start looked
            self._path.unlink()
            return False
        for number in _numbers(self._folder):
            if number < self._number:
                _path_of(self._folder, number).unlink(missing_ok=True)
        return True

    def is_lost(self) -> bool:
        """Whether another start took this one for dead: its node was out of sight, or its disk too long."""
        return max(_numbers(self._folder), default=self._number) > self._number

    def show_life(self) -> None:
        """To be called once a minute."""
        self._holder.saved = time.time()
        self._publish()

    def end(self) -> None:
        """Let the next start have it."""
        if not self.is_lost():
            self._holder.ended = True
            self._publish()


def take(run: Path, stage: str) -> Lease:
    """The right to train this stage of the run.

    Raises:
        UserError: another start trains it.
    """
    folder = run / "train" / stage
    number = max(_numbers(folder), default=0)
    while True:
        _refuse_held(run, stage, number)
        lease = Lease(folder, number + 1)
        if lease.claim():
            return lease
        # NFS may list the folder as it was a minute ago; that the name exists is the truth
        number = max(number + 1, *_numbers(folder))


def refuse_held(run: Path, stage: str) -> None:
    """Look whether :func:`take` would refuse; nothing is written.

    Raises:
        UserError: a start trains this stage.
    """
    _refuse_held(run, stage, max(_numbers(run / "train" / stage), default=0))


def _refuse_held(run: Path, stage: str, number: int) -> None:
    path = _path_of(run / "train" / stage, number)
    try:
        holder = Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # there is none, or a failing disk spoilt it
        return
    if not holder.is_at_work():
        return
    since, seen = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each)) for each in (holder.began, holder.saved))
    who = f"process {holder.pid} on {holder.host}" + (f", SLURM job {holder.job}" if holder.job else "")
    fix = "let it finish, or end it first"
    if holder.machine != _machine():
        fix += (
            f"; it gave its last sign of life at {seen}: if its host is dead, this command works {SILENCE / 60:.0f} "
            f"minutes after that, or once {path} is removed"
        )
    raise UserError(
        f"{run}: {stage} is being trained since {since} by {who}", "two trainings would write to the same files", fix
    )


def _numbers(folder: Path) -> list[int]:
    return [int(path.stem.removeprefix("lease-")) for path in folder.glob("lease-[0-9]*.json")]


def _path_of(folder: Path, number: int) -> Path:
    return folder / f"lease-{number:04d}.json"


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def _process(pid: int) -> str | None:
    """When a process of this machine began (field 22 of its status, proc(5)); None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _is_at_work(job: str) -> bool:
    """Whether SLURM has this job of the user at work; where SLURM cannot be asked, it may be."""
    if not slurm.available():
        return True
    try:
        return any(job == queued.job and queued.state != "PENDING" for queued in slurm.queue())
    except slurm.SchedulerError:
        return True
