# shellcheck shell=bash
# Options and configuration files of the box. Sourced by box; DIR is set when the functions are called.

export BOX_CPU_NODES=${BOX_CPU_NODES:-4} BOX_CPUS=${BOX_CPUS:-8}
export BOX_GPU_NODES=${BOX_GPU_NODES:-2} BOX_GPUS=${BOX_GPUS:-8} BOX_GPU_CPUS=${BOX_GPU_CPUS:-32}
export BOX_GRACE=${BOX_GRACE:-0} BOX_MAX_ARRAY=${BOX_MAX_ARRAY:-1001} BOX_PORT=${BOX_PORT:-17000}
export BOX_PREEMPT=${BOX_PREEMPT:-REQUEUE}
export BOX_ACCOUNTING=${BOX_ACCOUNTING:-} BOX_PLAIN=${BOX_PLAIN:-}
export BOX_UNTIL_EOF=${BOX_UNTIL_EOF:-} BOX_PURGE=${BOX_PURGE:-} BOX_LOCK=${BOX_LOCK:-}

parse_options() {
    local name
    while (($#)); do
        case $1 in
            --accounting | --plain | --until-eof | --purge)
                name=${1#--}
                printf -v "BOX_$(shell_name "$name")" 1
                shift
                ;;
            --cpu-nodes | --cpus | --gpu-nodes | --gpus | --gpu-cpus | --grace | --max-array | --port)
                name=${1#--}
                [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 wants a number, not '${2:-}'"
                printf -v "BOX_$(shell_name "$name")" '%s' "$2"
                shift 2
                ;;
            --preempt)
                [[ ${2:-} == requeue || ${2:-} == cancel ]] || die "--preempt wants requeue or cancel, not '${2:-}'"
                BOX_PREEMPT=${2^^}
                shift 2
                ;;
            *) die "unknown option '$1'; see: box help" ;;
        esac
    done
}

shell_name() {
    local name=${1^^}
    echo "${name//-/_}"
}

# "c[1-4]", or "c1" for one
range() {
    if (($2 == 1)); then echo "${1}1"; else echo "${1}[1-$2]"; fi
}

ports() {
    if (($2 == 1)); then echo "$1"; else echo "[$1-$(($1 + $2 - 1))]"; fi
}

node_names() {
    local number
    for ((number = 1; number <= BOX_CPU_NODES; number++)); do echo "c$number"; done
    for ((number = 1; number <= BOX_GPU_NODES; number++)); do echo "g$number"; done
}

controller_name() {
    if [[ -n $BOX_PLAIN ]]; then hostname -s; else echo login; fi
}

write_configuration() {
    local gpu
    for ((gpu = 0; gpu < BOX_GPUS; gpu++)); do ln -sfn /dev/null "$DIR/dev/nvidia$gpu"; done
    slurm_conf >"$DIR/etc/slurm.conf"
    gres_conf >"$DIR/etc/gres.conf"
    job_submit_lua >"$DIR/etc/job_submit.lua"
    [[ -z $BOX_ACCOUNTING ]] || (umask 077 && slurmdbd_conf >"$DIR/etc/slurmdbd.conf")
    if [[ -n $BOX_PLAIN ]]; then
        rm -f "$DIR/run/namespaces"
    else
        hosts >"$DIR/etc/hosts"
        touch "$DIR/run/namespaces"
    fi
}

hosts() {
    local number
    echo "127.0.0.1 localhost login"
    for ((number = 1; number <= BOX_CPU_NODES; number++)); do echo "10.77.1.$number c$number"; done
    for ((number = 1; number <= BOX_GPU_NODES; number++)); do echo "10.77.2.$number g$number"; done
}

# 22.05 and 23.11+ spell these differently; prints the lines of slurm.conf, and leaves the rest to cgroup.conf.
lines_by_version() {
    local version
    version=$(slurmctld -V | sed 's/[^0-9]*\([0-9]*\)\.\([0-9]*\).*/\1\2/')
    if ((version >= 2311)); then
        echo "CgroupPlugin=disabled" >"$DIR/etc/cgroup.conf"
        echo "PreemptParameters=send_user_signal"
    else
        echo "CgroupAutomount=no" >"$DIR/etc/cgroup.conf"
        echo "SlurmctldParameters=preempt_send_user_signal"
        echo "SwitchType=switch/none"
    fi
}

accounting_lines() {
    if [[ -z $BOX_ACCOUNTING ]]; then
        # Without associations no account is known, and AllowAccounts= keeps every job pending instead of refusing
        # some: the refusal is a job submit plugin's here, as on many sites
        echo "AccountingStorageType=accounting_storage/none"
        echo "JobSubmitPlugins=lua"
        return
    fi
    # AccountingStoragePass is the munge socket here: this connection ignores AuthInfo
    cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((BOX_PORT + 2))
AccountingStoragePass=$DIR/run/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits
# Else a job with the wrong account is accepted, and stays pending
EnforcePartLimits=ALL
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
CONF
}

slurm_conf() {
    local address=""
    [[ -z $BOX_PLAIN ]] || address="NodeHostname=localhost NodeAddr=127.0.0.1"
    cat <<CONF
ClusterName=box
SlurmctldHost=$(controller_name)(127.0.0.1)
SlurmctldPort=$((BOX_PORT + 1))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# A requeued job may start after cred_expire + 1 seconds; SLURM's own 120 would make every test wait
AuthInfo=socket=$DIR/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
$(lines_by_version)
# One machine, no root, no cgroups; nodes may claim more than the machine has
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
# 2 would make a node that was set DOWN idle at once, while its old step still dies: jobs get stuck for ever
ReturnToService=1
$(accounting_lines)
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Without it a job that asks for no memory takes the node's
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1,default_queue_depth=1000,sched_min_interval=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=$BOX_PREEMPT
JobRequeue=1
KillWait=2
CompleteWait=0
MinJobAge=600
MaxArraySize=$BOX_MAX_ARRAY
MessageTimeout=20
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
BatchStartTimeout=10
GresTypes=gpu
$(nodes "$address")
$(partitions)
CONF
}

nodes() {
    local address=$1
    echo "NodeName=$(range c "$BOX_CPU_NODES") $address Port=$(ports $((BOX_PORT + 10)) "$BOX_CPU_NODES")" \
        "CPUs=$BOX_CPUS Sockets=1 CoresPerSocket=$BOX_CPUS ThreadsPerCore=1 RealMemory=32000"
    ((BOX_GPU_NODES)) || return 0
    echo "NodeName=$(range g "$BOX_GPU_NODES") $address" \
        "Port=$(ports $((BOX_PORT + 10 + BOX_CPU_NODES)) "$BOX_GPU_NODES")" \
        "CPUs=$BOX_GPU_CPUS Sockets=1 CoresPerSocket=$BOX_GPU_CPUS ThreadsPerCore=1 RealMemory=256000" \
        "Gres=gpu:h100:$BOX_GPUS"
}

partitions() {
    local cpu gpu over="MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP"
    local under="MaxTime=INFINITE PriorityTier=1 PreemptMode=$BOX_PREEMPT GraceTime=$BOX_GRACE State=UP"
    cpu=$(range c "$BOX_CPU_NODES") gpu="$(range g "$BOX_GPU_NODES")${BOX_ACCOUNTING:+ AllowAccounts=research}"
    echo "PartitionName=cpu Nodes=$cpu Default=YES $over"
    echo "PartitionName=scavenge Nodes=$cpu $under"
    ((BOX_GPU_NODES)) || return 0
    echo "PartitionName=gpu Nodes=$gpu $over"
    echo "PartitionName=gpu_low Nodes=$gpu $under"
}

# A bare count of GPUs makes slurmd refuse the node, and so do plain files: any character device will do.
gres_conf() {
    echo "AutoDetect=off"
    ((BOX_GPU_NODES && BOX_GPUS)) || return 0
    echo "NodeName=$(range g "$BOX_GPU_NODES") Name=gpu Type=h100 File=$DIR/dev/nvidia$(
        if ((BOX_GPUS == 1)); then echo 0; else echo "[0-$((BOX_GPUS - 1))]"; fi
    )"
}

job_submit_lua() {
    cat <<'LUA'
-- As many sites have it: GPU partitions want an account.
local INVALID_ACCOUNT = 2045 -- ESLURM_INVALID_ACCOUNT

function slurm_job_submit(job, partitions, uid)
    local partition = job.partition or ""
    if string.match(partition, "^gpu") and job.account ~= "research" then
        slurm.log_user("partition %s wants an account, e.g. --account=research", partition)
        return INVALID_ACCOUNT
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
LUA
}

slurmdbd_conf() {
    cat <<CONF
DbdHost=$(controller_name)
DbdAddr=127.0.0.1
DbdPort=$((BOX_PORT + 2))
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.sock
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((BOX_PORT + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
}
