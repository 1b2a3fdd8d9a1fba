#!/usr/bin/env bash
# make gpu WHEELS=FOLDER: everything that needs a CUDA device, in one command, without a network.
#   tools/gpu.sh WHEELS [tests] [loss] [training] [next] [-- ARGUMENTS OF bench/gpu_training.py]
# WHEELS holds what the machine's Python lacks (tools/gpu_wheels.sh gathers it): wheels, and te-*.tar.xz, a built Transformer
# Engine, where there is no wheel of it. It all goes into build/gpu-site; nothing is installed into the machine's Python.
# WHEELS/next may hold a newer megatron-core: `next` trains on it for comparison.
# Without WHEELS the Python must have it all. Each part may fail; the others run, and the exit code says so.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export NVTE_FRAMEWORK=pytorch OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}
wheels=${1:-}; shift || true
parts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do parts+=("$1"); shift; done
[ $# -gt 0 ] && shift
if [ ${#parts[@]} -eq 0 ]; then
    parts=(tests loss training)
    [ ! -d "$wheels/next" ] || parts+=(next)
fi

failed=()
part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS; shift 2
    printf '\n== %s\n' "$name"
    timeout -k 10 "$limit" "$@" || failed+=("$name")
    printf '== %s: %d s\n' "$name" "$((SECONDS - began))"
}

install() {
    local site=$PWD/build/gpu-site
    mkdir -p "$site"
    "$PYTHON" setup.py --quiet build_ext --inplace & # beside the unpacking, which takes as long
    if [ -n "$wheels" ]; then
        "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$wheels"/*.whl || return
        for archive in "$wheels"/*.tar.xz; do
            [ ! -e "$archive" ] || "$PYTHON" -c "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')" "$archive" "$site" || return
        done
    fi
    wait $!
}

export PYTHONPATH=$PWD:$PWD/build/gpu-site
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || { echo "error: no NVIDIA driver answers here (nvidia-smi): run this on a machine with a CUDA GPU" >&2; exit 2; }
printf '== install\n'; began=$SECONDS; install || { echo "error: the installation failed; its message is above" >&2; exit 2; }; printf '== install: %d s\n' "$((SECONDS - began))"
for name in "${parts[@]}"; do
    case $name in
        tests) mapfile -t files < <(grep -lE 'needs_gpu|needs_transformer_engine|mark\.gpu' -r tests --include='test_*.py')
               part tests 240 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider --show-capture=no --tb=short --durations=8 "${files[@]}" ;;
        loss) part loss 200 "$PYTHON" -W ignore bench/fused_loss_h100.py --cases 8192x49152,8192x131072 ;;
        training) part training 420 "$PYTHON" -W ignore bench/gpu_training.py "$@" ;;
        next) "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target build/gpu-next "$wheels"/next/*.whl
              part next 90 env PYTHONPATH="$PWD:$PWD/build/gpu-next:$PWD/build/gpu-site" "$PYTHON" -W ignore bench/gpu_training.py --only bf16 --sequence 4096 ;;
        *) echo "error: $name is none of tests, loss, training, next" >&2; exit 2 ;;
    esac
done
printf '\n%d s in all; ' "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then echo "FAILED: ${failed[*]}"; exit 1; else echo "all parts passed"; fi
