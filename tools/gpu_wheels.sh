#!/usr/bin/env bash
# tools/gpu_wheels.sh FOLDER: download what `make gpu` carries to a machine without a network (Python 3.12, torch, triton, numpy,
# transformers, tokenizers and pytest are expected there; Transformer Engine as a wheel or archive of your own build).
set -euo pipefail
folder=${1:?usage: tools/gpu_wheels.sh FOLDER}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder"
pin() { grep -iE "^$1==" "$root/constraints.txt" || echo "$1"; }
# Transformer Engine imports onnxscript.
packages=(); for name in megatron-core pydantic pydantic_core annotated-types typing-inspection orjson zstandard liger-kernel onnxscript onnx-ir; do packages+=("$(pin "$name")"); done
platforms=(); for glibc in 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
get() { python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
    --dest "$@"; }
get "$folder" "${packages[@]}"
get "$folder/next" megatron-core==0.19.2 # newest for Python 3.12; LOG.md 2026-11-26
ls "$folder"
