#!/usr/bin/env bash
# The road as a chain of jobs, each after the one before has ended well:
#
#   examples/slurm/submit.sh RECIPE [sbatch options of the training jobs] [-- snow options]
#   examples/slurm/submit.sh examples/snowcoder_1b3/recipe.yaml --nodes=8 --partition=gpu -- --out /scratch/snowcoder
#
# PHASES   the recipe's phases, in order ("general continued enhanced")
# BEFORE   arrows before training, e.g. "corpus tokenizer annotate synthesize tokenize" (none: the tokens are there)
# AFTER    arrows after it ("convert evaluate report"; empty: none)
# ARROWS_OPTIONS  sbatch options of the jobs for those arrows, e.g. "--partition=cpu"
# and what train.sbatch and common.sh read: LAUNCHER, PREFLIGHT, CONTAINER, MOUNTS.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -f "$1" ]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 2
elif [ ! -f examples/slurm/common.sh ]; then
  echo "submit.sh: run it from the folder that holds examples/" >&2
  exit 2
fi
recipe=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
[ $# -eq 0 ] || shift # the --

last=
submit() { # NAME, then what sbatch is given
  local name=$1
  shift
  last=$(sbatch --parsable --job-name="snow-$name" ${last:+--dependency="afterok:$last" --kill-on-invalid-dep=yes} "$@")
  echo "$last $name"
}

read -ra arrows_options <<<"${ARROWS_OPTIONS:-}"
[ -z "${BEFORE:-}" ] || submit data "${arrows_options[@]}" examples/slurm/arrows.sbatch "$recipe" "$BEFORE" "$@"
for phase in ${PHASES:-general continued enhanced}; do
  submit "$phase" "${options[@]}" examples/slurm/train.sbatch "$recipe" "$phase" "$@"
done
after=${AFTER-convert evaluate report}
[ -z "$after" ] || submit model "${arrows_options[@]}" examples/slurm/arrows.sbatch "$recipe" "$after" "$@"
