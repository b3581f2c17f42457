"""Where tasks run: in this process, in local processes, or as SLURM job arrays; all through submitit."""

from __future__ import annotations

import os
import select
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.notice import MISCONFIGURED, SAVED
from codeio_hpc.launch.worker import Task, work

_LOCAL_MINUTES = 60 * 24 * 28
"""submitit's local controller wants a time limit; a local build has none to speak of."""


@dataclass
class TaskCall:
    """What submitit pickles and calls."""

    task: Task
    launcher: int | None = None
    """Process that must outlive a local task; None on a cluster."""

    def __call__(self) -> None:
        if self.launcher is not None and self.launcher != os.getpid():
            _die_with(self.launcher)
        try:
            work(self.task)
        except UserError as error:  # on record; the batch shell has a word for it, and a traceback would hide it
            print(f"codeio: {error}", file=sys.stderr)
            sys.exit(MISCONFIGURED)


def _die_with(launcher: int) -> None:
    """End this process when the launcher is gone, however it went.

    Otherwise a killed build would leave workers behind that write into the folder the next build works on.
    """
    try:
        descriptor = os.pidfd_open(launcher)
    except ProcessLookupError:
        os._exit(SAVED)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(SAVED)

    threading.Thread(target=watch, daemon=True).start()


def start_locally(tasks: Sequence[Task], processes: bool, folder: Path) -> list[Any]:
    """Start tasks on this machine; submitit's jobs. Without ``processes`` they run in this one, when asked for."""
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster="local" if processes else "debug")
    if processes:
        executor.update_parameters(timeout_min=_LOCAL_MINUTES)
    return [executor.submit(TaskCall(task, os.getpid())) for task in tasks]


def submit(folder: Path, parameters: dict[str, Any], python: str, calls: Sequence[Callable[[], None]]) -> str:
    """Submit calls to SLURM as one array (one call: as a plain job); the job's id.

    Args:
        folder: for submitit's files and the logs; a fresh one for each round, since a fresh cluster reuses job ids.
        parameters: as sbatch's flags, underscores for dashes; what submitit's ``SlurmExecutor`` takes.
        python: shell words that start the interpreter.

    Raises:
        SubmitLimitError, SchedulerBusyError, SchedulerError: see :func:`codeio_hpc.launch.slurm.submit`.
    """
    executor = _executor_class()(folder=folder, python=python)
    executor.update_parameters(**_prepared(parameters, len(calls)))
    with executor.batch():
        jobs = [executor.submit(call) for call in calls]
    return str(jobs[0].job_id).partition("_")[0]


def log_name(job: str, element: int | None) -> str:
    """Name of the log of a job, or of an element of an array, in the folder given to :func:`submit`."""
    return f"{job}_0_log.out" if element is None else f"{job}_{element}_0_log.out"


def script_of(parameters: dict[str, Any], python: str, tasks: int) -> str:
    """The batch script that :func:`submit` hands to sbatch; nothing is written."""
    from submitit.slurm.slurm import _make_sbatch_string

    prepared = _prepared(parameters, tasks)
    text: str = _make_sbatch_string(
        command=_command(python), folder=".", map_count=tasks if tasks > 1 else None, **prepared
    )
    return text


def _command(python: str) -> str:
    return f"{python} -u -m submitit.core._submit ."


def _prepared(parameters: dict[str, Any], tasks: int) -> dict[str, Any]:
    """With what makes submitit's script one of ours. It runs in its own folder and names no path of it: a run's folder
    may have any name."""
    log = log_name("%A", None).replace("_0_", "_%a_0_") if tasks > 1 else log_name("%j", None)
    additional = {**parameters.get("additional_parameters", {}), "output": log}
    return {
        **parameters,
        "additional_parameters": additional,
        "use_srun": False,  # each would be a call to the controller
        "stderr_to_stdout": True,
        "wckey": None,
    }


@cache
def _executor_class() -> Any:
    """submitit's SLURM executor, with our `sbatch`: what may have been submitted is looked for, and refusals are told
    apart. Made on demand: submitit takes a while to import."""
    import submitit

    class Executor(submitit.SlurmExecutor):  # type: ignore[misc]
        @property
        def _submitit_command_str(self) -> str:
            return _command(self.python)

        def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Any]:
            """As submitit's own, which hands arrays on to a plain SlurmExecutor."""
            folder, count = Path(self.folder), len(delayed_submissions)
            pickles = [folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
            script = folder / f"{uuid.uuid4().hex}.sh"
            self.parameters.update({"map_count": count} if count > 1 else {})
            try:
                for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
                    delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
                    delayed.dump(pickle)
                script.write_text(self._make_submission_file_text(self._submitit_command_str, ""), encoding="utf-8")
                job_id = slurm.submit(folder, script.name, self.parameters["job_name"])
            except BaseException:
                for path in (script, *pickles):
                    path.unlink(missing_ok=True)
                raise
            ids = [f"{job_id}_{element}" for element in range(count)] if count > 1 else [job_id]
            jobs = [self.job_class(folder=folder, job_id=each) for each in ids]
            jobs[0].paths.move_temporary_file(script, "submission_file")
            for job, pickle in zip(jobs, pickles, strict=True):
                job.paths.move_temporary_file(pickle, "submitted_pickle")
            return jobs

    return Executor
