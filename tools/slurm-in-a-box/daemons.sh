# shellcheck shell=bash
# Starting and stopping the box's daemons; runs as the box's first process. Sourced by box.

# A SLURM client whose server does not answer can hang for minutes.
ask() {
    timeout 5 "$@"
}

# wait_until SECONDS WHAT CMD...
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "gave up waiting for $what; see $DIR/log"
        sleep 0.05
    done
}

# A daemon must not keep the lock or the caller's pipe: the first would look like a box that is up.
daemon() {
    "$@" </dev/null >>"$DIR/log/start.log" 2>&1 {BOX_LOCK}>&- {input}<&-
}

settle_in_namespace() {
    local number
    hostname login
    mount --bind "$DIR/etc/hosts" /etc/hosts
    # Without an address beyond loopback's own, getaddrinfo (AI_ADDRCONFIG) finds no name at all
    {
        echo "link set lo up"
        for ((number = 1; number <= BOX_CPU_NODES; number++)); do echo "addr add 10.77.1.$number/32 dev lo"; done
        for ((number = 1; number <= BOX_GPU_NODES; number++)); do echo "addr add 10.77.2.$number/32 dev lo"; done
    } | ip -batch -
}

start_daemons() {
    export SLURM_CONF=$DIR/etc/slurm.conf
    start_munge
    [[ -z $BOX_ACCOUNTING ]] || start_accounting
    daemon slurmctld
    wait_until 20 slurmctld ask scontrol ping
    local name
    for name in $(node_names); do start_node "$name"; done
    wait_until 20 "idle nodes" all_idle
}

start_munge() {
    [[ -s $DIR/munge/key ]] || (umask 077 && head -c 1024 /dev/urandom >"$DIR/munge/key")
    daemon munged --key-file="$DIR/munge/key" --socket="$DIR/run/munge.sock" --pid-file="$DIR/run/munged.pid" \
        --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed" --num-threads=4 --force
}

start_node() {
    if [[ -n $BOX_PLAIN ]]; then
        daemon slurmd -N "$1"
    else
        # shellcheck disable=SC2016
        daemon unshare --uts sh -c 'hostname "$0" && exec slurmd -N "$0"' "$1"
    fi
}

all_idle() {
    local sick
    # a node that was down or drained when the box went down is so again: its state is kept
    sick=$(ask sinfo -h -N -t down,drain,fail -o %N | sort -u | paste -sd,)
    [[ -z $sick ]] || ask scontrol update nodename="$sick" state=resume || true
    (($(ask sinfo -h -N -o '%N %T' | sort -u | grep -c ' idle$') == BOX_CPU_NODES + BOX_GPU_NODES))
}

start_accounting() {
    local socket=$DIR/run/mysql.sock
    if [[ ! -d $DIR/mysql/mysql ]]; then
        daemon mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$DIR/mysql" \
            --auth-root-authentication-method=normal --skip-test-db
    fi
    daemon mariadbd --no-defaults --user="$(id -un)" --datadir="$DIR/mysql" --socket="$socket" \
        --pid-file="$DIR/run/mariadbd.pid" --port=$((BOX_PORT + 3)) --bind-address=127.0.0.1 --tmpdir="$DIR/tmp" \
        --log-error="$DIR/log/mariadb.log" --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
        --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 --performance-schema=off \
        --skip-name-resolve &
    wait_until 30 mariadb ask mariadb-admin --no-defaults --user=root --socket="$socket" ping
    mariadb --no-defaults --user=root --socket="$socket" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
        CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
        GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';"
    daemon slurmdbd
    wait_until 30 slurmdbd ask sacctmgr -n show cluster
    create_associations
}

# The user's own account is "general"; "research" must be asked for, which the GPU partitions want.
create_associations() {
    daemon sacctmgr -i add cluster box || true # nothing to do the second time
    daemon sacctmgr -i add account general,research cluster=box || true
    daemon sacctmgr -i add user "$(id -un)" account=general,research defaultaccount=general cluster=box || true
}

# The controller's end comes early, so that its state is saved: job numbers go on after the next start.
# What is not stopped here dies with the namespaces; without them everything has to be.
stop_daemons() {
    local file
    if [[ -n $BOX_PLAIN ]]; then stop_jobs; fi
    stop_daemon "$DIR/run/slurmctld.pid"
    stop_daemon "$DIR/run/slurmdbd.pid"
    stop_daemon "$DIR/run/mariadbd.pid"
    if [[ -n $BOX_PLAIN ]]; then
        for file in "$DIR"/run/slurmd-*.pid "$DIR/run/munged.pid"; do stop_daemon "$file"; done
    fi
}

stop_daemon() {
    local process
    [[ -s $1 ]] || return 0
    process=$(<"$1")
    kill -TERM "$process" 2>/dev/null || return 0
    for _ in {1..250}; do
        runs "$process" || return 0
        sleep 0.02
    done
    kill -KILL "$process" 2>/dev/null || true
}

# kill -0 succeeds on a zombie
runs() {
    local line
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    line=${line##*) }
    [[ ${line%% *} != Z ]]
}

# SLURM ends its own jobs best: the step daemons go, and their processes with them.
stop_jobs() {
    ask scancel --user="$(id -un)" >/dev/null 2>&1 || return 0
    for _ in {1..100}; do
        [[ -n $(ask squeue -h 2>/dev/null) ]] || return 0
        sleep 0.1
    done
}
