#!/usr/bin/env bash
# One rank:  rank.sh SAVED CMD...
# A rank that saved its state and stopped has exit code 85. srun --kill-on-bad-exit takes that for a failure: it ends
# the others, with SIGKILL after KillWait, and the job's code is 137. So 85 becomes 0 here, and the file SAVED, which
# all nodes see, tells the batch script.
set -uo pipefail
saved=$1
shift

child="" got=0 rc=0
trap 'got=1; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' USR1 TERM
"$@" &
child=$!
wait "$child" || rc=$?
while ((got)); do
    got=0 rc=0
    wait "$child" || rc=$?
done
if ((rc == 85)); then
    touch "$saved"
    exit 0
fi
exit "$rc"
