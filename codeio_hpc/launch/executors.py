"""Where tasks run: in this process, in local processes, or as SLURM job arrays; all through submitit."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.launch.run import Run
from codeio_hpc.launch.worker import INTERRUPTED, work

if TYPE_CHECKING:
    import submitit

    from codeio_hpc.config.site import Site

_LOCAL_MINUTES = 60 * 24 * 28
"""submitit's local controller wants a time limit; a local build has none to speak of."""


@dataclass
class TaskCall:
    """What submitit pickles and calls: one task of one step.

    ``checkpoint`` lets submitit requeue it as it is after a signal: what is published is not done again.
    """

    run: Path
    step: int
    task: int
    shards: list[int]
    launcher: int | None = None
    """Process that must outlive a local task; None on a cluster."""

    def __call__(self) -> None:
        if self.launcher is not None and self.launcher != os.getpid():
            _die_with(self.launcher)
        work(self.run, self.step, self.task, self.shards)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit on its preemption signal."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _die_with(launcher: int) -> None:
    """End this process when the launcher is gone, however it went.

    Otherwise a killed build would leave workers behind that write into the folder the next build works on.
    """
    try:
        descriptor = os.pidfd_open(launcher)
    except ProcessLookupError:
        os._exit(INTERRUPTED)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def calls_of(run: Run, step: int, tasks: Sequence[Sequence[int]], launcher: int | None) -> list[TaskCall]:
    """One call a task."""
    return [TaskCall(run.folder, step, number, list(shards), launcher) for number, shards in enumerate(tasks)]


def submit_locally(run: Run, step: int, tasks: Sequence[Sequence[int]], folder: Path) -> list[Any]:
    """Start the tasks on this machine; submitit jobs. With ``workers: 0`` they run in this process, when asked for."""
    import submitit

    cluster = "local" if run.config.launch.workers else "debug"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    if cluster == "local":
        executor.update_parameters(timeout_min=_LOCAL_MINUTES)
    return [executor.submit(call) for call in calls_of(run, step, tasks, os.getpid())]


def slurm_executor(folder: Path, parameters: dict[str, Any]) -> submitit.SlurmExecutor:
    """submitit's SLURM executor with these sbatch parameters (names as in sbatch, underscores for dashes)."""
    import submitit

    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(**parameters)
    return executor


def slurm_parameters(run: Run, site: Site, name: str, tasks: int) -> dict[str, Any]:
    """sbatch parameters of an array of data tasks on this site."""
    from codeio_hpc.launch.site_flags import submitit_parameters

    parameters = submitit_parameters(site, "cpu")
    parameters["job_name"] = f"codeio-{run.config.name}-{name}"
    parameters["time"] = run.config.launch.task_time
    parameters["array_parallelism"] = min(tasks, site.max_tasks_at_once)
    # srun of SLURM 22.05 to 23.02 does not inherit --cpus-per-task
    setup = ["export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}", *parameters.get("setup", [])]
    return {**parameters, "setup": setup, "stderr_to_stdout": True, "wckey": ""}


@contextmanager
def outside_any_job() -> Iterator[None]:
    """Hide the surrounding job's environment while a job is submitted from inside it.

    Inherited ``SLURM_*`` settings would shape the new job (``SLURM_CPU_BIND`` made jobs three times slower), and
    ``SBATCH_*`` variables override the script's own lines. ``SLURM_CONF`` says which cluster this is: it stays.
    """
    prefixes = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
    hidden = {name: os.environ[name] for name in os.environ if name.startswith(prefixes) and name != "SLURM_CONF"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
