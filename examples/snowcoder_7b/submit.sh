#!/usr/bin/env bash
# The three phases, conversion and evaluation as a chain of Slurm jobs; on 32 nodes of 8 GPUs, unless you say otherwise:
#   examples/snowcoder_7b/submit.sh [--nodes=64 --partition=... other sbatch options] [-- --out /scratch/snowcoder snow options]
exec examples/slurm/submit.sh examples/snowcoder_7b/recipe.yaml --nodes=32 "$@"
