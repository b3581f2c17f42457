# shellcheck shell=bash
# What the batch scripts share; sourced by them, with $home set to the project's folder.
#
#   begin CLASS SCRIPT ARGS...   make sure that the job has the site's resources of CLASS, else submit SCRIPT anew
#   banner FILE                  say what runs where; FILE is hashed as the configuration
#   preflight RUN                test the job's nodes, where the site wants that; comes back only if they can be used
#   run_one, run_ranks ARGS...   run `codeio ARGS` in this process' place, or once a rank
#   attempt_ends                 act upon the exit code of what ran (attempt.sh has the codes)
# shellcheck source=slurm/lib/attempt.sh
source "${home:?}/slurm/lib/attempt.sh"

export CODEIO_HOME=${home:?}
here=${SLURM_SUBMIT_DIR:-$PWD} # where runs and logs are; the project may be installed elsewhere, read-only
cd "$here" || exit "$MISCONFIGURED"
if [[ -z ${CODEIO_PYTHON:-} ]]; then
    CODEIO_PYTHON=$CODEIO_HOME/.venv/bin/python
    [[ -x $CODEIO_PYTHON ]] || CODEIO_PYTHON=python3
fi
readonly CODEIO_PYTHON
program=("$CODEIO_PYTHON") in_srun=() # of ranks; where the site gives them an image, begin reads others

codeio() {
    "$CODEIO_PYTHON" -m codeio_hpc "$@"
}

fail() {
    echo "$*" >&2
    exit "$MISCONFIGURED"
}

# -- the allocation ----------------------------------------------------------------------------------------------------

begin() {
    local class=$1 text flags lacking until queued
    shift
    CODEIO_BEGAN=$(date +%s.%N)
    export CODEIO_BEGAN CODEIO_QUEUED
    [[ -n ${SLURM_JOB_ID:-} ]] || fail "this is a batch script; type: sbatch $CODEIO_HOME/slurm/$*"
    unset "${!SQUEUE_@}" SLURM_TIME_FORMAT # what shows its user the queue otherwise would hide this job, or its end
    read -r until queued < <(squeue --noheader --jobs "$SLURM_JOB_ID" --format "%e %V") || until=unknown queued=unknown
    CODEIO_DEADLINE=$(date -d "$until" +%s 2>/dev/null) || CODEIO_DEADLINE="" # no date where there is no limit
    CODEIO_QUEUED=$(date -d "${queued:-unknown}" +%s 2>/dev/null) || CODEIO_QUEUED=""    # anew when it was requeued
    export CODEIO_DEADLINE
    text=$(codeio site flags "$class") || fail "the site file does not say what class '$class' gets (see above)"
    mapfile -t flags <<<"$text"
    lacking=$(lacking_flags "${flags[@]}")
    [[ -z $lacking ]] || submit_anew "$lacking" "$@"
    text=$(codeio site environment "$class") || fail "the site file's environment cannot be read (see above)"
    set +eu # as in arrays: environment modules read variables that are not set, and a line may fail (ulimit -l)
    source /dev/stdin <<<"$text"
    set -eu
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun of SLURM 22.05 to 23.02 does not inherit it
}

# Those of the site's flags that this job does not have. More nodes or GPUs than the site's are as good.
lacking_flags() {
    local flag value
    for flag in "$@"; do
        value=${flag#*=}
        case $flag in
            --partition=*) [[ ,$value, == *,"${SLURM_JOB_PARTITION:-}",* ]] ;;
            --account=*) [[ ${SLURM_JOB_ACCOUNT:-} == "${value,,}" ]] ;; # SLURM takes any letters, and keeps small ones
            --nodes=*) ((${SLURM_JOB_NUM_NODES:-1} >= value)) ;;
            --ntasks-per-node=*) ((${SLURM_NTASKS:-1} >= ${SLURM_JOB_NUM_NODES:-1} * value)) ;;
            --gpus-per-node=* | --gres=gpu:*) ((${SLURM_GPUS_ON_NODE:-0} >= ${value##*:})) ;;
            --time=*) has_time "$value" ;;
            *) continue ;;
        esac || echo "$flag"
    done
}

# H:MM:SS. A script's own 10 minutes only let it start anywhere. Any other limit was given to this job, or SLURM has
# changed it (--time-min): it does, though it may be less than the site's.
has_time() {
    local hours minutes
    IFS=: read -r hours minutes _ <<<"$1"
    [[ -z ${CODEIO_SUBMITTED:-} && -n $CODEIO_DEADLINE ]] || return 0
    ((60 * 10#$hours + 10#$minutes <= 10 || CODEIO_DEADLINE - $(date +%s) > 600))
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
    job=$(sbatch --parsable --export=ALL,CODEIO_SUBMITTED=1 "${flags[@]}" "$CODEIO_HOME/slurm/$script" "$@") ||
        fail "SLURM refused: sbatch ${flags[*]} slurm/$script $*"
    echo "submitted it with them as job ${job%%;*}, log codeio-${script%.sh}-${job%%;*}.out; this job is done"
    exit 0
}

# -- what is run -------------------------------------------------------------------------------------------------------

banner() {
    local code configuration
    code=$(git -C "$CODEIO_HOME" rev-parse --short=12 HEAD 2>/dev/null) || code=unknown
    # found as the program finds it (codeio_hpc/launch/sites/files.py)
    configuration=$(sha256sum "$1" 2>/dev/null || sha256sum "$CODEIO_HOME/$1" 2>/dev/null) || configuration=none
    export CODEIO_LOG=$here/$SLURM_JOB_NAME-$SLURM_JOB_ID.out
    attempt_starts "$code" "${configuration:0:12}"
    echo "   $SLURM_JOB_NAME on nodes $SLURM_JOB_NODELIST, ranks ${SLURM_NTASKS:-1}, configured by $1"
}

run_one() {
    run_forwarding "$CODEIO_PYTHON" -m codeio_hpc "$@"
}

# Ranks find each other at MASTER_ADDR:MASTER_PORT and know themselves by SLURM_PROCID.
choose_meeting_place() {
    local hosts
    MASTER_ADDR=localhost MASTER_PORT=$(free_port) CODEIO_NODES=""
    if ((${SLURM_NTASKS:-1} > 1)); then
        hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
        MASTER_ADDR=${hosts%%$'\n'*} CODEIO_NODES=${hosts//$'\n'/,}
    fi
    export MASTER_ADDR MASTER_PORT CODEIO_NODES
}

# start_ranks CODE FLAGS ARGS...: once a rank, by `srun FLAGS`. A rank that fails leaves its exit code in the file CODE.
start_ranks() {
    local code=$1 how=$2
    shift 2
    local -a command=("${program[@]}" -m codeio_hpc "$@")
    choose_meeting_place
    if ((${SLURM_NTASKS:-1} > 1)); then
        # shellcheck disable=SC2206 # several flags
        command=(srun $how "${in_srun[@]}" bash "$CODEIO_HOME/slurm/lib/rank.sh" "$code" "${command[@]}")
    elif ((${#in_srun[@]})); then
        command=(srun --ntasks=1 "${in_srun[@]}" "${command[@]}")
    fi
    run_forwarding "${command[@]}"
}

run_ranks() {
    local own code=.code-$SLURM_JOB_ID-$attempt
    # --wait: a rank that hangs after the others have ended well would hold the nodes until the time limit
    start_ranks "$code" "--kill-on-bad-exit=1 --wait=600" "$@"
    if [[ -e $code ]]; then
        own=$(<"$code") # empty where the disk was full
        case $rc in
            0) rc=$SAVED ;;
            255) rc=${own:-255} ;;
        esac
        rm -f "$code"
    fi
}

# Ends this attempt where nodes are bad and others can take their place, or where they cannot be used at all.
preflight() {
    [[ ${CODEIO_PREFLIGHT:-0} == 1 && -d $1 ]] || return 0
    local unusable="" unreached file=.preflight-$SLURM_JOB_ID-$attempt floor=${CODEIO_PREFLIGHT_FLOOR:-0.8}
    # a rank that fails does not end the others: they name it; --wait is longer than they wait for it
    start_ranks "$file.code" "--kill-on-bad-exit=0 --wait=300" preflight "$1" --floor="$floor" --bad-nodes="$file" \
        2>"$file.log"
    cat "$file.log" >&2
    unreached=$(sed -n 's/^srun: error: Task launch for .* failed on node \([^:]*\):.*/\1/p' "$file.log" | sort -u)
    [[ ! -e $file ]] || { read -r bad_nodes && read -r unusable; } <"$file" || true
    [[ -z $unreached ]] || bad_nodes=${unreached//$'\n'/,} unusable=$bad_nodes # and there no rank could say so
    rm -f "$file" "$file.code" "$file.log"
    if [[ -n $told ]]; then
        rc=$SAVED # nothing was begun
    elif [[ -n $bad_nodes && -z $unusable ]] && (($(others_than "$bad_nodes") < SLURM_JOB_NUM_NODES)); then
        echo "== $bad_nodes: bad, but partition $SLURM_JOB_PARTITION has none to take their place: going on with them"
        bad_nodes="" rc=0
    elif [[ -n $bad_nodes || $rc == 255 ]]; then # srun's own code, where it stumbles over its messages
        rc=$TRANSIENT
    fi
    ((rc == 0)) || attempt_ends
}

# A port that nobody listens on here, the first node; below the range that the kernel hands out. Jobs that share a node
# begin to look at different places.
free_port() {
    local port=$((10000 + SLURM_JOB_ID % 20000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do ((port++)); done
    echo "$port"
}
