# shellcheck shell=bash
# What the batch scripts share; sourced by them, with $home set to the project's folder.
#
#   begin CLASS SCRIPT ARGS...   make sure that the job has the site's resources of CLASS, else submit SCRIPT anew
#   banner FILE                  say what runs where; FILE is hashed as the configuration
#   run_one, run_ranks ARGS...   run `codeio ARGS` in this process' place, or once a rank
#   end                          act upon the exit code of what ran
#
# Exit codes: 0 done, 85 state saved (start me again), 75 node or transient (start me again), 64 wrong
# configuration (so is 2, the command line's code for a user's mistake).
readonly SAVED=85 TRANSIENT=75 MISCONFIGURED=64

export CODEIO_HOME=${home:?}
cd "$CODEIO_HOME" || exit "$MISCONFIGURED"
if [[ -z ${CODEIO_PYTHON:-} ]]; then
    CODEIO_PYTHON=$CODEIO_HOME/.venv/bin/python
    [[ -x $CODEIO_PYTHON ]] || CODEIO_PYTHON=python3
fi
readonly CODEIO_PYTHON
attempt=${SLURM_RESTART_COUNT:-0} # unset, not 0, on the first start

codeio() {
    "$CODEIO_PYTHON" -m codeio_hpc "$@"
}

fail() {
    echo "$*" >&2
    exit "$MISCONFIGURED"
}

# -- the allocation ----------------------------------------------------------------------------------------------------

begin() {
    local class=$1 text flags lacking
    shift
    [[ -n ${SLURM_JOB_ID:-} ]] || fail "this is a batch script; type: sbatch slurm/$*"
    text=$(codeio site flags "$class") || fail "the site file does not say what class '$class' gets (see above)"
    mapfile -t flags <<<"$text"
    lacking=$(lacking_flags "${flags[@]}")
    [[ -z $lacking ]] || submit_anew "$lacking" "$@"
    text=$(codeio site environment) || fail "the site file's environment cannot be read (see above)"
    set +u # environment modules read variables that are not set
    source /dev/stdin <<<"$text"
    set -u
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun of SLURM 22.05 to 23.02 does not inherit it
}

# Those of the site's flags that this job does not have. More nodes or GPUs than the site's are as good.
lacking_flags() {
    local flag value
    for flag in "$@"; do
        value=${flag#*=}
        case $flag in
            --partition=*) [[ ,$value, == *,"${SLURM_JOB_PARTITION:-}",* ]] ;;
            --account=*) [[ ${SLURM_JOB_ACCOUNT:-} == "$value" ]] ;;
            --nodes=*) ((${SLURM_JOB_NUM_NODES:-1} >= value)) ;;
            --ntasks-per-node=*) ((${SLURM_NTASKS:-1} >= ${SLURM_JOB_NUM_NODES:-1} * value)) ;;
            --gpus-per-node=* | --gres=gpu:*) ((${SLURM_GPUS_ON_NODE:-0} >= ${value##*:})) ;;
            *) continue ;;
        esac || echo "$flag"
    done
}

# Ends this job. The new one knows by CODEIO_SUBMITTED that it is not to do the same again.
submit_anew() {
    local lacking=$1 script=$2 name job
    shift 2
    [[ -z ${CODEIO_SUBMITTED:-} ]] ||
        fail "submitted with the site's flags, this job still lacks: ${lacking//$'\n'/ }; ask for them by hand, or" \
            "correct the site file"
    echo "this job lacks what the site file says: ${lacking//$'\n'/ }"
    # from here on SLURM must not start this job again: it would submit a second time
    scontrol update "jobid=$SLURM_JOB_ID" requeue=0
    # inherited settings would shape the new job; SLURM_CONF says which cluster this is
    for name in $(compgen -v | grep -E '^(SLURM|SLURMD|SRUN|SBATCH)_'); do
        [[ $name == SLURM_CONF ]] || unset "$name"
    done
    job=$(sbatch --parsable --export=ALL,CODEIO_SUBMITTED=1 "${flags[@]}" "slurm/$script" "$@") ||
        fail "SLURM refused: sbatch ${flags[*]} slurm/$script $*"
    echo "submitted it with them as job ${job%%;*}, log logs/codeio-${script%.sh}-${job%%;*}.out; this job is done"
    exit 0
}

# -- what is run -------------------------------------------------------------------------------------------------------

banner() {
    local code configuration
    code=$(git -C "$CODEIO_HOME" rev-parse --short=12 HEAD 2>/dev/null) || code=unknown
    configuration=$(sha256sum "$1" 2>/dev/null) || configuration=none
    cat <<TEXT
== $SLURM_JOB_NAME: job $SLURM_JOB_ID${SLURM_ARRAY_TASK_ID:+, element $SLURM_ARRAY_TASK_ID}, attempt $attempt
   host $(hostname), nodes $SLURM_JOB_NODELIST, ranks ${SLURM_NTASKS:-1}
   code $code, configuration ${configuration:0:12} ($1)
   $(date -u +%FT%TZ), until $(squeue --noheader --jobs "$SLURM_JOB_ID" --format %e)
TEXT
}

# Run in the background and wait, handing on signals; $rc is its exit code. A signal ends `wait`, not the child.
run_forwarding() {
    local child="" got=0
    trap 'got=1; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' USR1 TERM
    "$@" &
    child=$!
    rc=0
    wait "$child" || rc=$?
    while ((got)); do
        got=0
        rc=0
        wait "$child" || rc=$?
    done
    trap - USR1 TERM
}

run_one() {
    run_forwarding "$CODEIO_PYTHON" -m codeio_hpc "$@"
}

# Once a rank; ranks find each other at MASTER_ADDR:MASTER_PORT and know themselves by SLURM_PROCID.
run_ranks() {
    if ((${SLURM_NTASKS:-1} == 1)); then
        MASTER_ADDR=localhost MASTER_PORT=$(free_port) run_one "$@"
        return
    fi
    local hosts saved=logs/.saved-$SLURM_JOB_ID-$attempt
    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    MASTER_ADDR=${hosts%%$'\n'*} MASTER_PORT=$(free_port)
    export MASTER_ADDR MASTER_PORT
    # --wait: a rank that hangs after the others have ended well would hold the nodes until the time limit
    run_forwarding srun --kill-on-bad-exit=1 --wait=600 \
        bash slurm/lib/rank.sh "$saved" "$CODEIO_PYTHON" -m codeio_hpc "$@"
    if [[ -e $saved ]]; then
        rm -f "$saved"
        ((rc != 0)) || rc=$SAVED
    fi
}

# A port that nobody listens on here, the first node; below the range that the kernel hands out. Jobs that share a node
# begin to look at different places.
free_port() {
    local port=$((10000 + SLURM_JOB_ID % 20000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do ((port++)); done
    echo "$port"
}

# -- the end -----------------------------------------------------------------------------------------------------------

end() {
    case $rc in
        0) echo "== done" ;;
        "$SAVED") start_again "state saved" ;;
        "$TRANSIENT") start_again "failed for a passing reason" ;;
        "$MISCONFIGURED" | 2) echo "== wrong configuration: not started again" ;;
        *) echo "== failed: exit code $rc" ;;
    esac
    exit "$rc"
}

start_again() {
    # an array's own id can mean all of its elements
    local id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    id=${id:-$SLURM_JOB_ID}
    if [[ $CODEIO_REQUEUE != self ]]; then
        echo "== $1; by hand: scontrol requeue $id, or submit it again"
    elif ((attempt >= CODEIO_MAX_REQUEUES)); then
        echo "== $1; not started again: it was $attempt times"
    else
        echo "== $1; starting again"
        trap '' TERM # requeuing ends this script
        scontrol requeue "$id" || echo "== SLURM has requeued it already, or will not" # at preemption it does by itself
        ((rc != TRANSIENT)) || avoid_this_node "$id"
    fi
}

# Of several nodes nobody knows here which was at fault, and a partition's only node must not be ruled out.
avoid_this_node() {
    local others
    ((SLURM_JOB_NUM_NODES == 1)) || return 0
    others=$(sinfo --noheader --Node --partition "$SLURM_JOB_PARTITION" --states idle,mixed,allocated --format %N |
        grep -cvx "$SLURMD_NODENAME") || return 0
    echo "== not on $SLURMD_NODENAME; there are $others others"
    scontrol update "jobid=$1" "excnodelist=$SLURMD_NODENAME" || true
}
