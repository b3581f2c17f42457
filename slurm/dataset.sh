#!/usr/bin/env bash
# Build a dataset as job arrays, or continue:  sbatch slurm/dataset.sh CONFIG [key=value...]
# This job is small: it submits the next array and ends. Each array is followed by a small job that does the same, until
# the dataset is complete. Type the same line again after any failure: only what is missing is done.
#SBATCH --job-name=codeio-dataset
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --time=10
set -euo pipefail
# In a job this file is a copy in SLURM's spool folder: what belongs to it is found from where it was submitted.
home=${CODEIO_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
[[ -e $home/slurm/lib/common.sh ]] || { echo "not in $home: export CODEIO_HOME=/path/to/codeio-hpc" >&2; exit 64; }
# shellcheck source=slurm/lib/common.sh
source "$home/slurm/lib/common.sh"

(($#)) || fail "no configuration was given; type: sbatch $home/slurm/dataset.sh configs/runs/demo.yaml"
begin cpu dataset.sh "$@"
banner "$1"
run_one build "$@" --site "${CODEIO_SITE:-default}"
attempt_ends
