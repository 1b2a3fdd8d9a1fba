#!/usr/bin/env bash
# The three phases, conversion and evaluation as a chain of Slurm jobs; on 64 nodes of 8 GPUs, unless you say otherwise:
#   examples/snowcoder_13b/submit.sh [--nodes=128 --partition=... other sbatch options] [-- --out /scratch/snowcoder snow options]
exec examples/slurm/submit.sh examples/snowcoder_13b/recipe.yaml --nodes=64 "$@"
