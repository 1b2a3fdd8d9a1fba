#!/usr/bin/env bash
# The three phases, conversion and evaluation as a chain of Slurm jobs; on 8 nodes of 8 GPUs, unless you say otherwise:
#   examples/snowcoder_1b3/submit.sh [--nodes=16 --partition=... other sbatch options] [-- --out /scratch/snowcoder snow options]
exec examples/slurm/submit.sh examples/snowcoder_1b3/recipe.yaml --nodes=8 "$@"
