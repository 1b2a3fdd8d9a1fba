#!/bin/sh
# Build csrc/ with the address and undefined-behaviour sanitizers, beside the usual build, and run the tests of its users on it.
# PYTHON names the interpreter (default: the checkout's .venv, else python3); further arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
place=build/sanitize
SNOW_SANITIZE=1 "$PYTHON" setup.py --quiet build --build-base "$place/objects" --build-lib "$place/lib"
# The sanitizer's runtime must come first, and the C++ library with it so that it can follow exceptions. Python itself leaks on purpose.
# Capture off: a sanitizer's report must not die with the process it ends.
# Import mode append: the copy in $place, not the checkout, is what the tests import; they prove it by SNOW_SANITIZED_LIB.
LD_PRELOAD="$(${CXX:-g++} -print-file-name=libasan.so) $(${CXX:-g++} -print-file-name=libstdc++.so)" \
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
PYTHONPATH="$PWD/$place/lib" SNOW_SANITIZED_LIB="$PWD/$place/lib" PYTHONDONTWRITEBYTECODE=1 \
    "$PYTHON" -P -m pytest --capture=no -p no:cacheprovider --import-mode=append tests/blend tests/corpus/test_shingles.py tests/corpus/test_duplicates.py tests/corpus/test_decontamination.py "$@"
