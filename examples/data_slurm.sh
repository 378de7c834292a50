#!/usr/bin/env bash
# sbatch --array=1-8 examples/data_slurm.sh runs/data @teacher.toml --source samples.jsonl
# Task i of n asks part i/n of the rows, into runs/data-i; submitted again, each goes on where it was. Then, once all are done:
#   seethink data merge runs/data-* --out runs/data
#SBATCH --job-name=seethink-data
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@120
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

: "${1:?the folder of the whole run comes first}" "${SLURM_ARRAY_TASK_ID:?start this with sbatch --array=1-N}"
if [ "$SLURM_ARRAY_TASK_MIN" != 1 ] || [ "$SLURM_ARRAY_TASK_MAX" != "$SLURM_ARRAY_TASK_COUNT" ]; then
    # a part sent again alone does not know of how many it is one
    : "${PARTS:?the array is not 1-N: say of how many parts with PARTS=N sbatch ...}"
fi
out=$1
shift

# exec: the interrupt that Slurm sends two minutes before the end must reach the program, which lets calls in flight finish
exec python -m seethink data "$@" --shard "$SLURM_ARRAY_TASK_ID/${PARTS:-$SLURM_ARRAY_TASK_COUNT}" --out "$out-$SLURM_ARRAY_TASK_ID"
