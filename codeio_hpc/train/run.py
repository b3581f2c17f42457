"""``codeio train``: one stage of training of a run."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NoReturn

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch.attempts import OF_NO_SHARD, Attempt, Failure, new_attempt, training_moments, training_name
from codeio_hpc.launch.notice import FAILED, MISCONFIGURED, PASSING, Notice
from codeio_hpc.train.checkpoints.files import checkpoint_name
from codeio_hpc.train.counting import plural
from codeio_hpc.train.lease import Lease, refuse_held, take
from codeio_hpc.train.metrics import read_lines
from codeio_hpc.train.plan import TrainingPlan, make_plan, read_record

if TYPE_CHECKING:
    from codeio_hpc.train.world import World

_SIGN_OF_LIFE = 60.0
"""Seconds between two."""
_LOOK = 0.2
"""Seconds after which a moment that was reached is in the record: a notice may be short."""
_RANKS_A_CORE = 4
"""At most, of those that are started here: more is a slip, and 99 of them took a machine's last memory."""
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "client socket has timed out")
"""What torch's RuntimeErrors say when another rank is gone or cannot be reached; not all have a class of their own."""
_LIBRARY_S_ADVICE = re.compile(r"^\[[^\]]*/gloo/[^\]]*\] |\. This is typically caused by .*")
"""Where in gloo's sources an error was found, and its authors' wishes."""


def train(run: Path, stage: str, ranks: int | None, as_json: bool) -> int:
    """Train, or go on training, until the stage's model is published in ``models/``.

    ``ranks`` processes are started on this machine; with None the environment (SLURM's, or RANK and WORLD_SIZE) says
    which rank this process is. The exit code: 0 done, 85 checkpointed, 64 configuration, 75 other ranks lost, 1 it
    cannot go on (the loss is not finite, the disk is full).
    """
    try:
        return train_stage(run, stage, ranks, as_json)
    except (UserError, RunFailedError) as error:
        if _is_first():
            print(f"codeio: {error}", file=sys.stderr)
        code = MISCONFIGURED if isinstance(error, UserError) else FAILED
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave(code)
        return code


def _is_first() -> bool:
    """Whether this process speaks for all ranks."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def train_stage(run: Path, stage: str, ranks: int | None, as_json: bool) -> int:
    """As :func:`train`.

    Raises:
        UserError: the training cannot be done as it is configured.
        RunFailedError: it cannot go on.
    """
    from codeio_hpc.train.local import run_ranks
    from codeio_hpc.train.world import find_world

    if ranks is not None and ranks < 1:
        raise UserError(f"--ranks {ranks}", "at least one rank does the work", "give 1 or more")
    cores = len(os.sched_getaffinity(0))
    if ranks is not None and ranks > _RANKS_A_CORE * cores:
        why = f"each is a process with a model of its own, and this one may use {plural(cores, 'core')}"
        raise UserError(f"--ranks {ranks}", why, f"give at most {_RANKS_A_CORE * cores}, or submit it: --site NAME")
    plan = make_plan(run, stage)
    if plan.record is not None:
        if _is_first():
            _print_done(plan, plan.record, as_json, "already finished")
        return 0
    if ranks is not None and ranks > 1:
        refuse_held(run, stage)
        return run_ranks(run, stage, ranks, as_json)
    world = find_world({} if ranks == 1 else os.environ)
    # libgomp reads it when torch is loaded: threads that spin while they wait take turns with those that work, and on
    # two busy cores a step of a tiny model took 2.0 s instead of 0.05 s
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    notice = Notice(_acknowledge if world.rank == 0 else lambda notice: None)
    lease = _take(plan, world)
    if lease is not None:
        print(f"{stage}: loading libraries", file=sys.stderr, flush=True)
    from codeio_hpc.train.loop import train_rank
    from codeio_hpc.train.meeting import RanksLostError

    with _on_record(plan, world, notice, lease) as attempt:
        try:
            code = train_rank(plan, world, notice, attempt.reach)
        except (RuntimeError, RanksLostError) as error:
            if not is_passing(error):
                raise
            what = _LIBRARY_S_ADVICE.sub("", str(error).strip().splitlines()[0])
            print(
                f"codeio: rank {world.rank} lost the others ({what}); start again from the last checkpoint",
                file=sys.stderr,
            )
            code = PASSING
            attempt.failures.append(Failure(plan.name, OF_NO_SHARD, what))
            attempt.cause = "ranks lost"
    if code == 0 and world.rank == 0:
        _print_done(plan, read_record(plan.models / stage) or {}, as_json, "finished")
    if world.size > 1:
        _leave(code)
    return code


def _acknowledge(notice: Notice) -> None:
    """Say at once what may take a while to show: libraries are being loaded, or a micro-batch is at hand. Not print():
    this is a signal handler, and the program may be printing."""
    os.write(2, f"codeio: {notice.received}: ends in order, at the next point where all ranks agree on it\n".encode())


def _take(plan: TrainingPlan, world: World) -> Lease | None:
    """Rank 0's right to train; None in the others, which go without if rank 0 does.

    Raises:
        UserError: another start has it.
    """
    if world.rank:
        return None
    try:
        lease = take(plan.run, plan.name)
        if plan.record is not None:
            lease.end()
            raise UserError(f"{plan.run}: {plan.name} has just been finished", "another start did", "look at its model")
    except UserError as error:
        if world.size > 1:
            from codeio_hpc.train.meeting import tell_all

            tell_all(world, error)
        raise
    return lease


@contextmanager
def _on_record(plan: TrainingPlan, world: World, notice: Notice, lease: Lease | None) -> Iterator[Attempt]:
    """Keep the record of this attempt in the run folder, if this is rank 0, which has the lease: as data tasks do."""
    attempt = new_attempt(plan.run, training_name(plan.run, plan.name), 0)
    attempt.moments = training_moments()
    if lease is None:
        yield attempt
        return
    attempt.save(plan.run)
    try:
        with _showing_life(attempt, plan.run, notice, lease):
            yield attempt
    except BaseException as error:
        attempt.failures.append(Failure(plan.name, OF_NO_SHARD, _in_a_line(error)))
        attempt.finish(plan.run, "configuration" if isinstance(error, UserError) else "error")
        raise
    finally:
        with suppress(OSError):  # whoever comes next sees that this process is gone
            lease.end()
    _hear(attempt, notice)
    stopped = "time limit" if notice.received and notice.is_for_the_time_limit() else "interrupted"
    attempt.finish(plan.run, attempt.cause or (stopped if notice.received else "done"))


@contextmanager
def _showing_life(attempt: Attempt, run: Path, notice: Notice, lease: Lease) -> Iterator[None]:
    """Publish the record when there is something new, and every minute: what a killed attempt used is counted up to its
    last sign of life. The lease is shown to be in use, too."""
    ended = Event()

    def show() -> None:
        shown = attempt.moments
        while not ended.wait(min(_LOOK, _SIGN_OF_LIFE)):
            _hear(attempt, notice)
            if attempt.moments is shown and time.time() - attempt.saved < _SIGN_OF_LIFE:
                continue
            shown = attempt.moments
            with suppress(OSError):  # a full disk, or one out of sight, hurts only what has to be saved
                if lease.is_lost():
                    print(f"codeio: another start has taken over {run}; this one ends", file=sys.stderr)
                    _leave(MISCONFIGURED)
                attempt.save(run)
                lease.show_life()

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _in_a_line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return error.found
    return str(error) if isinstance(error, RunFailedError) else f"{type(error).__name__}: {error}"


def _hear(attempt: Attempt, notice: Notice) -> None:
    """Note the signal, if one came."""
    if notice.received:
        attempt.signal = notice.received
        attempt.reach("told", notice.when)


def _leave(code: int) -> NoReturn:
    """End this rank at once: everything is published, and threads of gloo that the interpreter's teardown meets
    abort the process now and then ("terminate called without an active exception")."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_passing(error: Exception) -> bool:
    """Whether an error says that other ranks are gone, rather than that something is wrong with this training."""
    import torch

    from codeio_hpc.train.meeting import RanksLostError

    gone = (torch.distributed.DistError, RanksLostError)
    return isinstance(error, gone) or any(word in str(error) for word in _LOST)


def _print_done(plan: TrainingPlan, record: dict[str, Any], as_json: bool, word: str) -> None:
    folder, measured = plan.models / plan.name, _validation(plan)
    if as_json:
        print(json.dumps({"state": word, "model": str(folder), **record, "validation": measured}, indent=1))
        return
    print(f"{plan.name} {word}: {plural(record['steps'], 'step')}, {folder}")
    if measured:
        last, best, checkpoint = measured["last"], measured["best"], measured["checkpoint"]
        print(
            f"validation loss: last {last['loss']:.4f} at step {last['step']:,}, best {best['loss']:.4f} at step "
            f"{best['step']:,}, {f'kept in {checkpoint}' if checkpoint else 'whose checkpoint is not there'}; "
            "the published model is that of the last step"
        )


def _validation(plan: TrainingPlan) -> dict[str, Any] | None:
    """{"last", "best": step and loss of what is never trained, "checkpoint": the folder that keeps the best one, None
    if it is not there}; None where nothing was measured."""
    measured = read_lines(plan.run / "train" / plan.name / "validation.jsonl")
    if not measured:
        return None
    best = min(measured, key=lambda line: line["loss"])
    checkpoint = plan.checkpoints / checkpoint_name(best["step"])
    return {"last": measured[-1], "best": best, "checkpoint": str(checkpoint) if checkpoint.is_dir() else None}
