"""Process groups: opened once per process from a layout, asked through these functions, and nowhere else."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous as meet

from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.settings import Layout


@dataclass(frozen=True)
class Place:
    """Where this process stands in the layout."""

    rank: int
    world: int
    tensor_rank: int
    pipeline_rank: int
    data_rank: int
    data: int
    """Data-parallel size."""
    context: int
    """Context-parallel size."""
    context_rank: int = 0
    tensor: int = 1
    """Tensor-parallel size."""

    @property
    def leader(self) -> bool:
        """The one process that writes files and talks to the user."""
        return self.rank == 0


def open_groups(layout: Layout, backend: Backend, rank: int, world: int, rendezvous: str, timeout_seconds: float, purpose: str = "") -> Place:
    """Join ``world`` processes at ``rendezvous`` (``file://...`` or ``env://``) and open the groups of ``layout``.

    ``timeout_seconds`` bounds every collective: a lost peer ends the run instead of hanging it. ``purpose`` must differ
    between the times a process does this: torchrun keeps one store for the whole job, with the addresses of closed groups.
    """
    timeout = datetime.timedelta(seconds=timeout_seconds)
    store, _, _ = next(meet(rendezvous, rank, world, timeout=timeout))
    store.set_timeout(timeout)
    dist.init_process_group(backend.communication, store=PrefixStore(purpose, store), rank=rank, world_size=world, timeout=timeout)
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor,
        pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=layout.virtual_pipeline,
        context_parallel_size=layout.context,
        distributed_timeout_minutes=max(1, round(timeout_seconds / 60)),
    )
    return Place(
        rank=rank, world=world, tensor_rank=parallel_state.get_tensor_model_parallel_rank(), pipeline_rank=parallel_state.get_pipeline_model_parallel_rank(),
        data_rank=parallel_state.get_data_parallel_rank(), data=parallel_state.get_data_parallel_world_size(), context=layout.context,
        context_rank=parallel_state.get_context_parallel_rank(), tensor=layout.tensor,
    )  # fmt: skip


def close_groups() -> None:
    """Leave all groups."""
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


def ends(layout: Layout, vp_stage: int | None) -> tuple[bool, bool]:
    """Whether a piece of the model holds the embedding, and whether it holds the loss."""
    if vp_stage is None:
        return parallel_state.is_pipeline_first_stage(), parallel_state.is_pipeline_last_stage()
    return (
        parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
    )


def on_last_stage() -> bool:
    """Whether this process computes losses."""
    return parallel_state.is_pipeline_last_stage(ignore_virtual=True)


def replica_group() -> dist.ProcessGroup:
    """The processes that hold the same weights (data x context)."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def context_slice(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """This process's part of each [batch, sequence] tensor under context parallelism; the tensors themselves without.

    Of 2 x size chunks it holds its own and the one as far from the end, which even out what a causal mask makes early ones save:
    the order megatron's and Transformer Engine's attention expect. (Megatron's own function changed its arguments in 0.19.)
    """
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    if size == 1:
        return dict(batch)
    chunks = {name: tensor.chunk(2 * size, dim=1) for name, tensor in batch.items()}
    return {name: torch.cat([pieces[rank], pieces[-1 - rank]], dim=1) for name, pieces in chunks.items()}


def total(values: list[float], backend: Backend) -> list[float]:
    """Sum each value over all processes, in double precision; every process gets the same result."""
    tensor = torch.tensor(values, dtype=torch.float64, device=backend.device)
    dist.all_reduce(tensor)
    return tensor.tolist()


def barrier() -> None:
    """Wait for every process."""
    dist.barrier()
