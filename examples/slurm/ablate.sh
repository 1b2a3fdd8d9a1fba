#!/usr/bin/env bash
# A study as three jobs: what its runs share, an array of a task a run, and the results:
#
#   examples/slurm/ablate.sh STUDY [sbatch options of the array] [-- snow options]
#   examples/slurm/ablate.sh examples/studies/phases.yaml --gpus-per-node=8 --partition=gpu -- --scale gpu --out /scratch/phases
#
# A run trains on the node that its task is given, on as many of its GPUs as the task has. What two runs have in common beyond the
# data (a phase) is made by the one that comes first, the other waits for it: the folder's file system must know flock.
# SHARED_OPTIONS  sbatch options of the first and the last job, e.g. "--partition=cpu"
# and what common.sh reads: CONTAINER, MOUNTS, LOST_AFTER.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -f "$1" ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
elif [ ! -f examples/slurm/ablate.sbatch ]; then
  echo "ablate.sh: run it from the folder that holds examples/" >&2
  exit 2
fi
study=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
[ $# -eq 0 ] || shift # the --

runs=$(snow ablate "$study" "$@" --list | wc -l)
read -ra shared_options <<<"${SHARED_OPTIONS:-}"
first=$(sbatch --parsable --job-name=snow-study-data "${shared_options[@]}" examples/slurm/ablate.sbatch "$study" "$@" --shared)
array=$(sbatch --parsable --job-name=snow-study --array="0-$((runs - 1))" --dependency="afterok:$first" --kill-on-invalid-dep=yes "${options[@]}" \
  examples/slurm/ablate.sbatch "$study" "$@")
# afterany: runs that failed are named in the results of the others
last=$(sbatch --parsable --job-name=snow-study-results --dependency="afterany:$array" "${shared_options[@]}" examples/slurm/ablate.sbatch "$study" "$@" --results-only)
printf '%s data\n%s runs 0-%s\n%s results\n' "$first" "$array" "$((runs - 1))" "$last"
