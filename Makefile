# make quickstart   the whole road on this machine, from nothing
# make test         the test suite
# make soak         the tests that take long: a run killed a hundred times
# make gpu          what needs a CUDA device: tests marked gpu and the GPU benches (WHEELS=FOLDER where there is no network)
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,tools,fast
BIN := $(VENV)/bin
# CPU ranks: idle OpenMP threads must not spin on cores that other ranks need.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= true
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: install quickstart test soak check bench gpu sanitize clean

install: $(VENV)/.installed

# torch goes first: with it in place nothing else pulls another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt setup.py $(wildcard csrc/*)
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 12) else f'megatron_snow needs Python 3.11 or 3.12, this is {v[0]}.{v[1]}: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch setuptools wheel pybind11
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$(EXTRAS)]'
	touch $@

quickstart: install
	$(BIN)/snow run examples/quickstart/recipe.yaml

# Two files at a time, as they come (xdist would begin the few long tests of the whole road last): much of the suite waits for processes to start.
# -rfEs: what failed, and what was skipped and why, stands before the closing line.
test: install
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rfEs

soak: install
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -m soak -o faulthandler_timeout=7200

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_tree.py

# csrc under the address and undefined-behaviour sanitizers, driven by the blend's tests
sanitize: install
	PYTHON=$(BIN)/python csrc/sanitize.sh

# The CPU's; those of a GPU are part of make gpu. convert_1b3 writes some 11 GB into the folder for temporary files.
bench: install
	for script in $(filter-out bench/gpu_% bench/plain_llama.py %_h100.py,$(wildcard bench/*.py)); do $(BIN)/python $$script || exit 1; done

# The machine's own Python, which has torch for its driver; see tools/gpu.sh.
gpu:
	tools/gpu.sh $(WHEELS)

clean:
	rm -rf $(VENV) build out *.egg-info megatron_snow/*.so
