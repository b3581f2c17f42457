#!/usr/bin/env bash
# One rank:  rank.sh CODE CMD...
# A rank that saved its state and stopped has exit code 85. srun --kill-on-bad-exit takes that for a failure: it ends
# the others, with SIGKILL after KillWait, and the job's code is 137. So 85 becomes 0 here, and the file CODE, which
# all nodes see, tells the batch script. So it does of any other code: srun has one of its own, 255, where it stumbles
# over its messages as the ranks end.
set -uo pipefail
# shellcheck source=slurm/lib/attempt.sh
source "$(dirname "$0")/attempt.sh"
code=$1
shift

run_forwarding "$@"
((rc == 0)) || echo "$rc" >"$code"
((rc != SAVED)) || [[ ! -e $code ]] || exit 0 # where it could not be written, 0 would say that all is done
exit "$rc"
