# The environment that examples/slurm runs in with CONTAINER set; for one GPU generation to build on any machine with docker:
#
#   docker build -t snow .
#   enroot import -o snow.sqsh dockerd://snow          # for pyxis:    CONTAINER=snow.sqsh
#   apptainer build snow.sif docker-daemon://snow:latest   # Apptainer: CONTAINER=snow.sif
#
# The driver comes from the node, NCCL and cuDNN with torch. The devel image is for Transformer Engine's torch half, which
# PyPI has as source only. NVIDIA's apex is left out: with Transformer Engine it is not needed, and PyPI's apex is another package.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PATH=/opt/snow/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake git ninja-build python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/snow

WORKDIR /opt/megatron_snow
COPY constraints.txt ./
RUN pip install --constraint constraints.txt torch setuptools wheel pybind11

# 2.11 is what megatron-core 0.16.1 takes and torch 2.11 loads; NVTE_CUDA_ARCHS: 90 Hopper, 100 Blackwell
ARG TRANSFORMER_ENGINE=2.11.0
ARG NVTE_CUDA_ARCHS=90
ENV NVTE_FRAMEWORK=pytorch
RUN export CUDNN_PATH="$(python -c 'import nvidia.cudnn; print(list(nvidia.cudnn.__path__)[0])')" \
    && pip install --constraint constraints.txt --no-build-isolation "transformer-engine[pytorch,core_cu13]==$TRANSFORMER_ENGINE"

COPY pyproject.toml setup.py LICENSE README.md ./
COPY csrc csrc
COPY megatron_snow megatron_snow
RUN pip install --constraint constraints.txt --no-build-isolation '.[tools,fast]' && snow --help >/dev/null

WORKDIR /recipes
CMD ["snow", "doctor"]
