#!/usr/bin/env bash
# Train a run's rejection-sampled solutions:  sbatch slurm/rft.sh [RUN]     (RUN: $CODEIO_RUN, else runs/latest)
# Nodes, GPUs, partition and account are the site file's; see docs/cluster.md.
#SBATCH --job-name=codeio-rft
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --time=10
#SBATCH --signal=B:USR1@300
set -euo pipefail
# In a job this file is a copy in SLURM's spool folder: what belongs to it is found from where it was submitted.
home=${CODEIO_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
[[ -e $home/slurm/lib/common.sh ]] || { echo "not in $home: export CODEIO_HOME=/path/to/codeio-hpc" >&2; exit 64; }
# shellcheck source=slurm/lib/common.sh
source "$home/slurm/lib/common.sh"

run=${1:-${CODEIO_RUN:-runs/latest}}
export CODEIO_WARNING=300 # as --signal asks
begin train rft.sh "$@"
banner "$run/run.json"
preflight "$run"
run_ranks train "$run" --stage rft
attempt_ends
