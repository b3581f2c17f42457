#!/usr/bin/env bash
# One rank:  rank.sh SAVED CMD...
# A rank that saved its state and stopped has exit code 85. srun --kill-on-bad-exit takes that for a failure: it ends
# the others, with SIGKILL after KillWait, and the job's code is 137. So 85 becomes 0 here, and the file SAVED, which
# all nodes see, tells the batch script.
set -uo pipefail
# shellcheck source=slurm/lib/attempt.sh
source "$(dirname "$0")/attempt.sh"
saved=$1
shift

run_forwarding "$@"
if ((rc == SAVED)); then
    touch "$saved"
    exit 0
fi
exit "$rc"
