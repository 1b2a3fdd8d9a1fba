"""The device seam: everything that differs between CPU and GPU, behind one protocol.

Model, checkpoint and training code ask the backend and never name a device. ``CpuBackend`` (gloo) and
``CudaBackend`` (nccl) are the two; a machine with CUDA gets the second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from megatron_snow.parallel.apex_guard import guard_apex
from megatron_snow.parallel.settings import Fp8Settings, Precision

if TYPE_CHECKING:
    import torch
    from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
    from megatron.core.transformer.transformer_config import TransformerConfig


class Backend(Protocol):
    """One device kind."""

    name: str
    communication: str
    """torch.distributed's backend."""
    device: torch.device
    overlap: bool
    """Whether collectives should run beside computation (they need streams for that)."""

    def start(self, threads: int) -> None:
        """Prepare this process, once, before anything is built."""
        ...

    def check_precision(self, precision: Precision, fp8: Fp8Settings) -> None:
        """Raises SnowError where this machine cannot train in it."""
        ...

    def overrides(self, precision: Precision, fp8: Fp8Settings) -> dict[str, Any]:
        """Fields of megatron's TransformerConfig that depend on the device."""
        ...

    def block_spec(self, config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
        """The layers of this rank's piece of the model."""
        ...

    def seed(self, seed: int) -> None:
        """Seed the default and the per-tensor-rank random streams; after the process groups exist."""
        ...

    def optimizer(self, config: OptimizerConfig, chunks: list[Any]) -> MegatronOptimizer:
        """Megatron's distributed optimizer over the wrapped model chunks."""
        ...


def has_cuda_driver() -> bool:
    """Whether a CUDA driver is there at all: answers in microseconds, without importing torch or starting CUDA."""
    return any(Path(driver).exists() for driver in ("/dev/nvidiactl", "/dev/dxg"))  # Linux, Linux on Windows


def cuda_is_available() -> bool:
    """Whether this process sees a CUDA device (imports torch)."""
    import torch

    return torch.cuda.is_available()


def choose_backend(local_rank: int) -> Backend:
    """The backend of this machine. Guards against a false apex first: megatron looks for it on import."""
    guard_apex()
    if cuda_is_available():
        from megatron_snow.parallel.cuda import CudaBackend

        return CudaBackend(local_rank)
    from megatron_snow.parallel.cpu import CpuBackend

    return CpuBackend()


def assert_sound(config: TransformerConfig) -> None:
    """Stop on the two configurations that run without error and train wrongly (seen on gloo, megatron-core 0.16.1).

    Batched point-to-point with interleaving over two stages: next and previous are the same peer, and its messages are
    matched in posting order. Overlapped sends with freed outputs: the storage is replaced while it is being sent.
    """
    interleaved_pair = config.virtual_pipeline_model_parallel_size is not None and config.pipeline_model_parallel_size == 2
    assert not (config.batch_p2p_comm and interleaved_pair), "batch_p2p_comm with interleaved pipeline=2 gives wrong gradients"
    assert not (config.overlap_p2p_comm and config.deallocate_pipeline_outputs), "overlap_p2p_comm with deallocate_pipeline_outputs gives wrong gradients"
