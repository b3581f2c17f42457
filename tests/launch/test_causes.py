"""Why attempts ended, told from records and logs as a real SLURM 22.05 and our batch shell wrote them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from codeio_hpc.launch.attempts import Attempt
from codeio_hpc.launch.causes import CAUSES, Ending, Judged, bad_nodes, ending_of, judge

STEPD = "slurmstepd-{host}: error: *** JOB 2 ON {host} CANCELLED AT 2026-11-25T18:45:10{why} ***"


def attempt(restart: int = 0, host: str = "c1", **more: object) -> Attempt:
    known = {"job": "1_0", "log": "logs/1_0_0_log.out", "start": "2026-11-25T18:45:00Z", "step": 3, "pid": 7, **more}
    return Attempt(work="step3-round000", task=0, restart=restart, host=host, **known)  # type: ignore[arg-type]


def log(*lines: str) -> list[str]:
    return ["== attempt 0 starts on c1 at 2026-11-25T18:45:00Z, job 2, element 0", *lines]


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        (" DUE TO PREEMPTION", "preempted"),
        (" DUE TO TIME LIMIT", "time limit"),
        (" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS", "node"),
        (" DUE TO JOB REQUEUE", "requeued"),
        ("", "cancelled"),
    ],
)
def test_what_slurm_says_in_the_log_is_the_cause(why: str, cause: str) -> None:
    line = STEPD.format(host="c1", why=why)
    for record in (attempt(), attempt(cause="interrupted", signal="SIGTERM")):
        assert ending_of(record, log(line, "== attempt 0 ends: exit code 85"), True, False) == Ending(cause, line)


def test_a_killed_process_is_told_by_the_shell_that_outlived_it() -> None:
    line = "== attempt 0 ends: exit code 137 (killed by SIGKILL)"
    assert ending_of(attempt(), log(line), False, False) == Ending("killed", line)
    assert ending_of(attempt(), log("== attempt 0 ends: exit code 1"), False, False).cause == "error"


def test_memory_is_told_by_slurm_s_oom_message() -> None:
    line = "slurmstepd-c1: error: Detected 1 oom_kill event in StepId=2.batch. Some of the step tasks were OOM Killed."
    assert ending_of(attempt(), log("== attempt 0 ends: exit code 137", line), False, False).cause == "out of memory"


def test_a_successor_without_a_word_of_slurm_means_that_the_node_was_lost() -> None:
    for record in (attempt(), attempt(cause="superseded"), attempt(cause="done")):
        assert ending_of(record, log("== attempt 0 ends: exit code 0"), True, False).cause == "node"
    assert ending_of(attempt(), log(), False, False).cause == "node"
    assert ending_of(attempt(), log(), False, True).cause == "running"


def test_a_job_that_has_itself_requeued_at_its_time_limit_ended_for_that() -> None:
    lines = log("== attempt 0 ends: exit code 85", "== state saved; starting again")
    lines.append(STEPD.format(host="c1", why=" DUE TO JOB REQUEUE"))
    assert ending_of(attempt(cause="time limit"), lines, True, False).cause == "time limit"
    lines[-1] = STEPD.format(host="c1", why=" DUE TO PREEMPTION")
    assert ending_of(attempt(cause="time limit"), lines, True, False).cause == "preempted"


@pytest.mark.parametrize("cause", ["ranks lost", None])
def test_training_that_lost_its_ranks_and_has_itself_requeued_ended_for_that(cause: str | None) -> None:
    """As a real SLURM 22.05 writes it; the record has no cause where rank 0 was the one that was lost."""
    ends = "== attempt 0 ends: exit code 75"
    lines = log(ends, "== failed for a passing reason; starting again")
    assert ending_of(attempt(cause=cause, step=None), lines, False, False) == Ending("ranks lost", ends)
    lines.append(STEPD.format(host="c1", why=" DUE TO JOB REQUEUE"))
    assert ending_of(attempt(cause=cause, step=None), lines, True, False) == Ending("ranks lost", ends)
    lines[-1] = STEPD.format(host="c1", why=" DUE TO PREEMPTION")
    assert ending_of(attempt(cause=cause, step=None), lines, True, False).cause == "preempted"


def test_one_that_stopped_before_slurm_could_end_it_was_being_preempted() -> None:
    record = attempt(cause="interrupted", signal="SIGUSR1")
    assert ending_of(record, log("== attempt 0 ends: exit code 85"), False, False).cause == "preempted"
    assert ending_of(attempt(cause="interrupted", signal="SIGINT", job=None), [], False, False).cause == "interrupted"


def test_a_warning_that_no_preemption_followed_was_for_a_time_limit_that_had_been_shortened() -> None:
    record = attempt(cause="interrupted", signal="SIGUSR1")
    lines = log(
        "== attempt 0 ends: exit code 85",
        "== state saved; waiting for SLURM to end this job; if that is for another, it starts it again",
    )
    assert ending_of(record, lines, True, False).cause == "node"
    lines.append("== state saved; starting again")
    assert ending_of(record, lines, True, False).cause == "time limit"
    lines.append(STEPD.format(host="c1", why=" DUE TO JOB REQUEUE"))
    assert ending_of(record, lines, True, False).cause == "time limit"


def test_two_copies_write_into_one_log_and_each_is_told_apart() -> None:
    """c1 was thought dead; its task ran on while the new one, on c2, was preempted."""
    preempted = STEPD.format(host="c2", why=" DUE TO PREEMPTION")
    lines = log("== attempt 1 starts on c2 at 2026-11-25T18:50:00Z, job 2, element 0", preempted)
    lines += ["== attempt 0 ends: exit code 0", "== attempt 2 starts on c3 at 2026-11-25T18:51:00Z, job 2, element 0"]
    assert ending_of(attempt(0, "c1", cause="done"), lines, True, False).cause == "node"
    assert ending_of(attempt(1, "c2"), lines, True, False) == Ending("preempted", preempted)
    assert ending_of(attempt(2, "c3"), lines, False, True).cause == "running"


def test_what_was_judged_before_stays_when_the_logs_are_gone(tmp_path: Path) -> None:
    for restart in (0, 1):
        attempt(restart).save(tmp_path)
    (tmp_path / "logs").mkdir()
    known = {"step3-round000-task00000-start0": Ending("preempted", "said then")}
    judged = list(judge(tmp_path, {"1_0"}, known))
    assert [each.ending.cause for each in judged] == ["preempted", "running"]
    assert [each.ending.cause for each in judge(tmp_path, set(), known)] == ["preempted", "node"]


def test_training_is_running_until_its_files_say_otherwise(tmp_path: Path) -> None:
    """The queue that builds look at has no training in it: two healthy jobs must not rule their node out."""
    for job in ("123", "124"):
        record = attempt(host="g1", job=job, log=f"logs/{job}.out", step=None)
        record.work = f"stage1-job{job}"
        record.save(tmp_path)
    judged = list(judge(tmp_path, set(), {}))
    assert [each.ending.cause for each in judged] == ["running", "running"] and not bad_nodes(judged)
    (tmp_path / "logs").mkdir()
    text = "\n".join(log("== attempt 0 ends: exit code 137 (killed by SIGKILL)"))
    (tmp_path / "logs" / "124.out").write_text(text, encoding="utf-8")
    restarted = attempt(1, "g2", job="123", step=None)
    restarted.work = "stage1-job123"
    restarted.save(tmp_path)
    causes = [each.ending.cause for each in judge(tmp_path, set(), {})]
    assert causes == ["node", "running", "killed"]


def test_training_that_gives_no_sign_of_life_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in ("123", None):
        record = attempt(host="g1", job=job, log=None, step=None)
        record.work = f"stage1-{job}"
        record.save(tmp_path)
    now = time.time()
    for minutes, causes in ((5, ["running", "running"]), (15, ["node", "killed"])):
        monkeypatch.setattr("codeio_hpc.launch.causes.time.time", lambda minutes=minutes: now + 60 * minutes)
        assert [each.ending.cause for each in judge(tmp_path, set(), {})] == causes


def test_a_node_that_kills_twice_is_left_out_but_never_more_than_a_third() -> None:
    def ended(host: str, cause: str, times: int = 1) -> list[Judged]:
        return [Judged(attempt(number, host), Ending(cause)) for number in range(times)]

    calm = [each for host in ("c1", "c2", "c3") for each in ended(host, "done")]
    assert bad_nodes([*calm, *ended("c2", "killed"), *ended("c3", "preempted", 9)]) == []
    assert bad_nodes([*calm, *ended("c2", "killed"), *ended("c2", "node")]) == ["c2"]
    everywhere = [each for host in ("c1", "c2", "c3") for each in ended(host, "killed", 2)]
    assert len(bad_nodes([*calm, *everywhere, *ended("c3", "node")])) == 1
    assert bad_nodes([*calm, *everywhere, *ended("c3", "node")]) == ["c3"]


def test_every_cause_has_a_meaning() -> None:
    assert all(CAUSES.values()) and {"done", "preempted", "time limit", "node", "out of memory", "error"} <= set(CAUSES)
