# shellcheck shell=bash
# One attempt of a job, as the batch shell sees it, on the host and outside any container (where scontrol is):
#
#   attempt_starts CODE CONF   say so in the log, with the versions of both, and when the time limit comes
#   run_forwarding CMD...      run, handing on signals; $rc is its exit code, $told the first signal
#   attempt_ends               act upon $rc: start again, or not, as the site says; exits
#   in_container NAMES ARGS... apptainer ARGS, with the variables of this job and those of NAMES (joined by commas)
#
# Needs CODEIO_REQUEUE (who starts a job again: slurm, self, none), CODEIO_MAX_REQUEUES, CODEIO_PREEMPT_MODE (requeue, cancel,
# off), CODEIO_WARNED (1: the site signals before it preempts) and CODEIO_GRACE (so many seconds), CODEIO_DEADLINE (of the
# time limit, seconds since the epoch), CODEIO_WARNING (seconds before it that the job asked to be warned; none: it did not).
#
# Exit codes: 0 done, 85 state saved (start me again), 75 node or transient (start me again), 64 wrong configuration (so is
# 2, the command line's code for a user's mistake).
SAVED=85 TRANSIENT=75 MISCONFIGURED=64
attempt=${SLURM_RESTART_COUNT:-0} # unset, not 0, on the first start
rc=0 told=""
bad_nodes="" # joined by commas: what the next start is to do without

# The program reads from these lines why an attempt ended (codeio_hpc/launch/causes.py).
attempt_starts() {
    local element=${SLURM_ARRAY_TASK_ID:+, element $SLURM_ARRAY_TASK_ID} until="the job's end"
    [[ -z ${CODEIO_DEADLINE:-} ]] || until=$(date -u -d "@$CODEIO_DEADLINE" +%FT%TZ)
    echo "== attempt $attempt starts on ${SLURMD_NODENAME:-$(hostname)} at $(date -u +%FT%TZ), job $SLURM_JOB_ID$element"
    echo "   code $1, configuration $2, until $until"
}

# A signal ends `wait`, not the child: two plain waits would lose the child's own exit code.
run_forwarding() {
    local child="" got=0
    told=""
    trap 'got=1; told=${told:-USR1}; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' USR1 USR2
    trap 'got=1; told=TERM; [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM
    "$@" &
    child=$!
    rc=0
    wait "$child" || rc=$?
    while ((got)); do
        got=0
        rc=0
        wait "$child" || rc=$?
    done
    trap - USR1 USR2 TERM
    # it was told before it could listen: nothing was begun
    [[ -z $told ]] || ((rc != 138 && rc != 143)) || rc=$SAVED
}

# Apptainer with --cleanenv hands on what begins with APPTAINERENV_; a task has to know which it is, and what the site
# tells all tasks.
in_container() {
    local name names=${1//,/|}
    shift
    for name in $(compgen -e | grep -E "^((SLURM|SUBMITIT|CODEIO)_.*|$names)$"); do
        export "APPTAINERENV_$name=${!name}"
    done
    exec apptainer "$@"
}

attempt_ends() {
    local what=""
    ((rc <= 128 || rc > 192)) || what=" (killed by SIG$(kill -l $((rc - 128))))"
    echo "== attempt $attempt ends: exit code $rc$what"
    case $rc in
        0) ;;
        "$SAVED") start_again "state saved" ;;
        "$TRANSIENT") start_again "failed for a passing reason" ;;
        "$MISCONFIGURED" | 2) echo "== wrong configuration: not started again" ;;
    esac
    exit "$rc"
}

# Exactly one may do it. At the time limit nobody but this script does; at preemption SLURM does, and a job that requeues
# itself meanwhile is started twice (seen in 24.11.5).
start_again() {
    # an array's own id can mean all of its elements
    local without id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    id=${id:-$SLURM_JOB_ID}
    ! is_being_preempted || await_preemption "$1"
    if [[ $told == TERM && $CODEIO_PREEMPT_MODE == cancel ]]; then
        echo "== $1; SLURM cancels this job for another: it is not started again by itself"
    elif [[ $CODEIO_REQUEUE == none ]]; then
        echo "== $1; by hand: scontrol requeue $id, or submit it again"
    elif ((attempt >= CODEIO_MAX_REQUEUES)); then
        echo "== $1; not started again: it was $attempt times"
        [[ $CODEIO_REQUEUE != slurm ]] || rc=1
    elif [[ $CODEIO_REQUEUE == slurm && -z $bad_nodes ]]; then # SLURM would take the same nodes
        echo "== $1; starting again"
        rc=$SAVED # this code, and perhaps no other, is in its RequeueExit
    else
        echo "== $1; starting again"
        without=""
        ((rc != TRANSIENT)) || without=$(nodes_to_avoid)
        trap '' TERM # requeuing ends this script, after KillWait
        scontrol requeue "$id" || echo "== SLURM has requeued it already, or will not"
        [[ -z $without ]] || avoid "$id" "$without"
    fi
}

# A job that ends by itself during its grace has ended for SLURM, and is not started again: it has to be there to be killed.
# That comes KillWait after the grace, whose end is looked at every 30 s; so it does after scancel, which is not to be
# undone. Where it does not come, somebody else has sent the signal.
await_preemption() {
    local second kill_wait
    [[ $CODEIO_PREEMPT_MODE != cancel ]] || return 0
    echo "== $1; waiting for SLURM to end this job; if that is for another, it starts it again"
    trap '' TERM
    kill_wait=$(scontrol show config | sed -n 's/^KillWait *= *\([0-9]*\).*/\1/p') || true
    for ((second = 0; second < ${CODEIO_GRACE:-0} + ${kill_wait:-30} + 40; second++)); do sleep 1; done
}

# SLURM signals at preemption and at the time limit; the clock tells which. Its warning may be 60 s early.
is_being_preempted() {
    [[ $told == TERM || ($told == USR1 && ${CODEIO_WARNED:-0} == 1) ]] || return 1
    [[ -n ${CODEIO_DEADLINE:-} ]] || return 0
    (($(date +%s) < CODEIO_DEADLINE - ${CODEIO_WARNING:-0} - 60))
}

# Of several nodes nobody knows which was at fault, unless a test has said so; and what is left has to be enough.
nodes_to_avoid() {
    local nodes=$bad_nodes
    [[ -n $nodes ]] || ((SLURM_JOB_NUM_NODES > 1)) || nodes=$SLURMD_NODENAME
    [[ -z $nodes ]] || (($(others_than "$nodes") < SLURM_JOB_NUM_NODES)) || echo "$nodes$(excluded)"
}

# SLURM changes this of a job that waits, not of one that runs.
avoid() {
    echo "== not on $2"
    scontrol update "jobid=$1" "excnodelist=$2" || true
}

# How many nodes of this job's partition are up, beside these and those that it does without already.
others_than() {
    sinfo --noheader --Node --partition "$SLURM_JOB_PARTITION" --states idle,mixed,allocated --format %N | sort -u |
        grep -cvxF "$(scontrol show hostnames "$1$(excluded)")" || true
}

# What this job does without already, after a comma; nothing if there is none.
excluded() {
    scontrol show job "$SLURM_JOB_ID" | sed -n '/ExcNodeList=[^ (]/{s/.*ExcNodeList=\([^ ]*\).*/,\1/p;q}' || true
}
