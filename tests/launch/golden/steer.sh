#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=4
#SBATCH --dependency='afterany:<array 0>'
#SBATCH --job-name=codeio-mine-1a3d75-steer-2-r1
#SBATCH --mem-per-cpu=4G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=%j_0_log.out
#SBATCH --partition=low
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=60

# setup
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
export SUBMITIT_PREEMPT_SIGNAL=URG
export CODEIO_DEADLINE=$(($(date +%s) + 3600)) CODEIO_WARNING=120
export CODEIO_LOG="$PWD/${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}_0_log.out"
export CODEIO_SCRATCH="${TMPDIR:-/tmp}/codeio-$UID"
export TRITON_CACHE_DIR="$CODEIO_SCRATCH/triton" TORCHINDUCTOR_CACHE_DIR="$CODEIO_SCRATCH/inductor"
export TORCH_EXTENSIONS_DIR="$CODEIO_SCRATCH/extensions"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export CODEIO_REQUEUE=self CODEIO_MAX_REQUEUES=50 CODEIO_PREEMPT_MODE=off CODEIO_WARNED=0 CODEIO_GRACE=0
source LIBRARY
attempt_starts CODE CONFIGURATION

# command
export SUBMITIT_EXECUTOR=slurm
run_forwarding PYTHON -u -m submitit.core._submit .


# teardown
attempt_ends