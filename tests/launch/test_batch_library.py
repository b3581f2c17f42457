"""slurm/lib without a scheduler: what the batch shell decides by itself."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.site import Site
from codeio_hpc.launch.jobs import batch_library
from codeio_hpc.launch.sites.flags import image_lines

WAITING = """
sleep() {{ slept=$((slept + $1)); }}
scontrol() {{ {says}; }}
slept=0 SLURM_JOB_ID=1 CODEIO_REQUEUE=self CODEIO_PREEMPT_MODE=requeue CODEIO_GRACE=60
source "$0"
await_preemption "state saved" >/dev/null
echo "$slept"
"""


@pytest.mark.parametrize(
    ("says", "seconds"), [("echo 'KillWait                = 90 sec'", 60 + 90 + 40), ("return 1", 60 + 30 + 40)]
)
def test_a_job_that_was_told_to_end_waits_until_slurm_has_killed_it(says: str, seconds: int) -> None:
    """However long KillWait is here: a job that was cancelled is not to start itself again."""
    command = ["bash", "-euo", "pipefail", "-c", WAITING.format(says=says), str(batch_library())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == seconds


LACKING = """
home=$0 SLURM_JOB_ID=1 SLURM_JOB_PARTITION=low
source "$home/slurm/lib/common.sh"
[[ $1 == none ]] && CODEIO_DEADLINE="" || CODEIO_DEADLINE=$(($(date +%s) + 60 * $1))
lacking_flags --partition=low --time=$2 --mem=4G
"""


@pytest.mark.parametrize(
    ("left", "wanted", "submitted", "lacks"),
    [
        ("10", "4:00:00", "", True),  # as typed: the script's own ten minutes
        ("10", "0:10:00", "", False),
        ("10", "4:00:00", "1", False),  # SLURM made it shorter
        ("30", "4:00:00", "", False),  # asked for by hand
        ("none", "4:00:00", "", False),  # the partition has no limit
    ],
)
def test_a_job_as_typed_lacks_the_time_that_the_site_gives(left: str, wanted: str, submitted: str, lacks: bool) -> None:
    home = batch_library().parents[2]
    command = ["bash", "-euo", "pipefail", "-c", LACKING, str(home), left, wanted]
    environment = {**os.environ, "CODEIO_SUBMITTED": submitted}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == (f"--time={wanted}\n" if lacks else "")


STARTING = """
source "$0"
attempt_starts 1.2 0123456789ab
"""


@pytest.mark.parametrize(("deadline", "until"), [("1700000000", "2023-11-14T22:13:20Z"), ("", "the job's end")])
def test_a_log_begins_with_what_runs_and_until_when(deadline: str, until: str) -> None:
    environment = {
        **os.environ,
        "SLURM_JOB_ID": "8",
        "SLURMD_NODENAME": "c1",
        "SLURM_ARRAY_TASK_ID": "3",
        "CODEIO_DEADLINE": deadline,
    }
    command = ["bash", "-euo", "pipefail", "-c", STARTING, str(batch_library())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"== attempt 0 starts on c1 at \S+, job 8, element 3", first), "causes.py reads it"
    assert second == f"   code 1.2, configuration 0123456789ab, until {until}"


ENDING = """
scontrol() { echo "scontrol $*"; }
source "$0"
rc=$1 told=""
attempt_ends
"""


@pytest.mark.parametrize(
    ("owner", "code", "restarts", "ends_with", "says"),
    [
        ("slurm", 85, 0, 85, ["== state saved; starting again"]),
        ("slurm", 75, 0, 85, ["== failed for a passing reason; starting again"]),
        ("slurm", 85, 3, 1, ["== state saved; not started again: it was 3 times"]),
        ("self", 85, 0, 85, ["== state saved; starting again", "scontrol requeue 7"]),
        ("self", 85, 3, 85, ["== state saved; not started again: it was 3 times"]),
        ("none", 85, 0, 85, ["== state saved; by hand: scontrol requeue 7, or submit it again"]),
    ],
)
def test_one_starts_a_saved_job_again_and_not_for_ever(
    owner: str, code: int, restarts: int, ends_with: int, says: list[str]
) -> None:
    """SLURM does by itself, where its RequeueExit has the code: a job that is to stay ended has another."""
    environment = {
        **os.environ,
        "SLURM_JOB_ID": "7",
        "SLURM_RESTART_COUNT": str(restarts),
        "CODEIO_REQUEUE": owner,
        "CODEIO_MAX_REQUEUES": "3",
        "CODEIO_PREEMPT_MODE": "off",
    }
    command = ["bash", "-euo", "pipefail", "-c", ENDING, str(batch_library()), str(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == [f"== attempt {restarts} ends: exit code {code}", *says]
    assert done.returncode == ends_with


BEGINNING = """
home=$0 SLURM_JOB_ID=1
source "$home/slurm/lib/common.sh"
squeue() { echo N/A; }
codeio() { if [[ $2 == flags ]]; then echo --time=0:05:00; else printf 'false\\nexport SEEN=$UNKNOWN-yes\\n'; fi; }
begin cpu dataset.sh
echo "$SEEN"
"""


def test_a_site_s_line_that_fails_ends_a_batch_script_as_little_as_a_task() -> None:
    """Such as ``ulimit -l unlimited`` under a hard limit."""
    home = batch_library().parents[2]
    command = ["bash", "-euo", "pipefail", "-c", BEGINNING + "false\necho not reached", str(home)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("-yes\n", 1), done.stderr


TOLD = """
source "$0"
told=USR1 CODEIO_WARNED=1 CODEIO_DEADLINE=$(($(date +%s) + 300))
is_being_preempted && echo preempted || echo "time limit"
"""


@pytest.mark.parametrize(("asked", "why"), [("600", "time limit"), ("120", "preempted"), (None, "preempted")])
def test_what_a_signal_is_for_is_told_by_the_warning_that_the_job_asked_for(asked: str | None, why: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CODEIO_WARNING"}
    environment |= {} if asked is None else {"CODEIO_WARNING": asked}
    command = ["bash", "-euo", "pipefail", "-c", TOLD, str(batch_library())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{why}\n"


AVOIDING = """
scontrol() {
    case "$1 $2" in
        "show job") echo "   ReqNodeList=(null) ExcNodeList=$BEFORE" ;;
        "show hostnames") tr , '\\n' <<<"$3" ;;
        *) echo "scontrol $*" ;;
    esac
}
sinfo() { printf '%s\\n' $UP; }
"""

STARTING_ELSEWHERE = (
    AVOIDING
    + """
source "$0"
rc=75 bad_nodes=$1
start_again "failed"
"""
)


@pytest.mark.parametrize(
    ("owner", "bad", "nodes", "up", "before", "avoided"),
    [
        ("self", "g2", "2", "g1 g2 g2 g3", "(null)", "g2"),
        ("self", "g2,g3", "2", "g1 g2 g3 g4 g5", "g1", "g2,g3,g1"),
        ("self", "g2", "2", "g1 g2 g3 g4", "g4", "g2,g4"),
        ("self", "g2", "2", "g1 g2 g3", "g3", None),  # one is left, and two are needed
        ("self", "", "2", "g1 g2 g3 g4", "(null)", None),  # which of the two?
        ("self", "", "1", "g1 g2", "(null)", "g1"),
        ("self", "", "1", "g1", "(null)", None),
        ("slurm", "g2", "2", "g1 g2 g3", "(null)", "g2"),  # SLURM by itself would start it on the same nodes
    ],
)
def test_a_job_starts_again_without_bad_nodes_if_enough_others_are_there(
    owner: str, bad: str, nodes: str, up: str, before: str, avoided: str | None
) -> None:
    environment = {
        **os.environ,
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": nodes,
        "SLURM_JOB_PARTITION": "gpu",
        "SLURMD_NODENAME": "g1",
        "CODEIO_REQUEUE": owner,
        "CODEIO_MAX_REQUEUES": "3",
        "CODEIO_PREEMPT_MODE": "off",
        "UP": up,
        "BEFORE": before,
    }
    command = ["bash", "-euo", "pipefail", "-c", STARTING_ELSEWHERE, str(batch_library()), bad]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    says = ["== failed; starting again", "scontrol requeue 7"]
    says += [] if avoided is None else [f"== not on {avoided}", f"scontrol update jobid=7 excnodelist={avoided}"]
    assert done.stdout.splitlines() == says


TESTING_NODES = (
    AVOIDING
    + """
home=$0
source "$home/slurm/lib/common.sh"
run_forwarding() {
    echo "run $*"
    rc=$CODE told=$TOLD
    [[ $CODE != 233 ]] || echo "srun: error: Task launch for StepId=7.0 failed on node g2: Communication failure" >&2
    [[ -z $BAD ]] || printf '%s\\n%s\\n' "$BAD" "$UNUSABLE" >.preflight-7-0
}
attempt_ends() { echo "ends $rc without ${bad_nodes:-none}"; exit 0; }
free_port() { echo 12345; }
preflight .
echo "trains $rc"
"""
)


@pytest.mark.parametrize(
    ("code", "bad", "unusable", "told", "up", "then"),
    [
        (0, "", "", "", "g1 g2", "trains 0"),
        (75, "g2", "", "", "g1 g2 g3", "ends 75 without g2"),
        (75, "g2", "", "", "g1 g2", "trains 0"),  # slowly, but there are no others
        (75, "g2", "g2", "", "g1 g2", "ends 75 without g2"),  # who cannot take part at all
        (137, "g2", "g2", "", "g1 g2 g3", "ends 75 without g2"),  # a rank was killed, and the others named it
        (75, "", "", "", "g1 g2 g3", "ends 75 without none"),
        (255, "", "", "", "g1 g2 g3", "ends 75 without none"),
        (233, "", "", "", "g1 g2 g3", "ends 75 without g2"),  # srun could not reach it
        (64, "", "", "", "g1 g2 g3", "ends 64 without none"),
        (1, "", "", "", "g1 g2 g3", "ends 1 without none"),
        (0, "", "", "USR1", "g1 g2", "ends 85 without none"),  # its time is nearly up
        (143, "", "", "TERM", "g1 g2", "ends 85 without none"),
    ],
)
def test_a_training_begins_only_on_nodes_that_can_do_it(
    tmp_path: Path, code: int, bad: str, unusable: str, told: str, up: str, then: str
) -> None:
    environment = {
        **os.environ,
        "CODEIO_PREFLIGHT": "1",
        "CODEIO_PREFLIGHT_FLOOR": "0.7",
        "CODEIO_PYTHON": "python",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "g1,g2",
        "SLURM_JOB_PARTITION": "gpu",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        **{"CODE": str(code), "BAD": bad, "UNUSABLE": unusable, "TOLD": told, "UP": up, "BEFORE": "(null)"},
    }
    home = batch_library().parents[2]
    command = ["bash", "-euo", "pipefail", "-c", TESTING_NODES, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("==")]
    assert lines == [
        f"run srun --kill-on-bad-exit=0 --wait=300 bash {home}/slurm/lib/rank.sh .preflight-7-0.code"
        " python -m codeio_hpc preflight . --floor=0.7 --bad-nodes=.preflight-7-0",
        then,
    ]
    assert not list(tmp_path.iterdir())
    off = {**environment, "CODEIO_PREFLIGHT": "0"}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=off).stdout == "trains 0\n"


@pytest.mark.parametrize(("code", "writable", "then"), [(85, True, 0), (85, False, 85), (1, True, 1), (0, False, 0)])
def test_a_rank_that_saved_its_state_never_ends_as_if_all_were_done(
    tmp_path: Path, code: int, writable: bool, then: int
) -> None:
    """srun is told 0 only where the batch script can read of the 85."""
    told = tmp_path / "code" if writable else tmp_path / "not there" / "code"
    command = ["bash", str(batch_library().with_name("rank.sh")), str(told), "bash", "-c", f"exit {code}"]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == then
    assert told.exists() == bool(writable and code)


IN_AN_IMAGE = """
home=$0
source "$home/slurm/lib/common.sh"
source /dev/stdin <<<"$LINES_OF_SITE"
run_forwarding() { printf '%s\\n' "$@"; rc=0; }
scontrol() { tr , '\\n' <<<"$3"; }
free_port() { echo 12345; }
run_ranks train mine
run_one site check
"""


@pytest.mark.parametrize("ranks", ["1", "4"])
@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_ranks_are_started_in_the_site_s_image_and_what_submits_jobs_is_not(
    tmp_path: Path, runtime: str, ranks: str
) -> None:
    train = {"time": "1h", "gpus_per_node": 2, "image": "/images/my train.sif"}
    container = {"runtime": runtime, "binds": ["/data:/data:ro", "/models"], "flags": ["--writable-tmpfs"]}
    classes = {"cpu": {"time": "1h"}, "train": train}
    site = parse(Site, {"name": "s", "resources": classes, "container": container}, "s")
    assert image_lines(site, "cpu") == []
    [line] = image_lines(site, "train")
    environment = {
        "PATH": os.environ["PATH"],
        "CODEIO_PYTHON": "python",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": ranks,
        "SLURM_JOB_NODELIST": "g1,g2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "LINES_OF_SITE": line,
    }
    home = batch_library().parents[2]
    command = ["bash", "-euo", "pipefail", "-c", IN_AN_IMAGE, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    words = done.stdout.splitlines()
    inside = ["python3", "-m", "codeio_hpc", "train", "mine"]
    several = ["srun", "--kill-on-bad-exit=1", "--wait=600"], ["bash", f"{home}/slurm/lib/rank.sh", ".code-7-0"]
    if runtime == "apptainer":
        ours = "CODEIO_SCRATCH,TRITON_CACHE_DIR,TORCHINDUCTOR_CACHE_DIR,TORCH_EXTENSIONS_DIR,HF_HUB_OFFLINE"
        ours += ",TRANSFORMERS_OFFLINE,HF_DATASETS_OFFLINE"
        ours += ",MASTER_ADDR,MASTER_PORT,CUDA_VISIBLE_DEVICES,OMP_NUM_THREADS,NCCL_[A-Z_]*"
        binds = ["--bind=/data:/data:ro", "--bind=/models", "--writable-tmpfs", f"--bind={tmp_path}"]
        image = ["in_container", ours, "exec", "--cleanenv", "--no-home", "--nv", *binds]
        image += [f"--pwd={tmp_path}", "/images/my train.sif"]
        expected = [*image, *inside] if ranks == "1" else [*several[0], *several[1], *image, *inside]
    else:
        mounts = f"/data:/data:ro,/models:/models,{tmp_path}:{tmp_path},{home}/slurm:{home}/slurm"
        image = ["--container-image=/images/my train.sif", f"--container-mounts={mounts}", "--no-container-mount-home"]
        image += [f"--container-workdir={tmp_path}", "--writable-tmpfs"]
        expected = ["srun", "--ntasks=1", *image] if ranks == "1" else [*several[0], *image, *several[1]]
        expected += inside
    assert words == [*expected, "python", "-m", "codeio_hpc", "site", "check"]
