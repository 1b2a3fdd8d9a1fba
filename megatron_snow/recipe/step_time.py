"""How long a step takes on a cluster, by a model simple enough to be checked by hand.

A GPU computes at the stated model FLOPs utilisation (MFU) when it holds a whole model; splitting adds to that:

- pipeline: all stages take as long as the last, which has the loss head too; and (p - 1) / (v m) of the computation is
  the bubble of (interleaved) 1F1B with m micro-batches (Narayanan et al. 2021);
- recomputation: full runs the layers' forward pass again, a third of their FLOPs; selective the attention's;
- tensor: four all-reduces (or their sequence-parallel halves) of a micro-batch's residual stream a layer, six with full
  recomputation, each 2 (t - 1) / t of its bytes a GPU; nothing hides them;
- context: keys and values go round the ring once forward and twice backward; half is hidden behind attention;
- data: fp32 gradients reduced, 16-bit weights gathered; half is hidden behind the backward and forward passes.

Within a node bytes go over NVLink, between nodes over the network. Input, checkpoints and stragglers are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.settings import ModelSettings, Recompute, flops_per_token, matrix_parameters, parameters
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.settings import PhaseSettings

H100_FLOPS = 989e12  # NVIDIA H100 SXM data sheet: dense bf16
H100_MEMORY = 80 * 10**9  # the same
ASSUMED_MFU = 0.40  # ours: what Megatron-LM publishes for models of this size on H100 is 0.35-0.45
NVLINK = 450e9  # bytes a second each way; NVIDIA H100 SXM data sheet: 900 GB/s for both
NETWORK = 50e9  # bytes a second each way and GPU; 400 Gb/s InfiniBand, one port a GPU as in NVIDIA's DGX H100
NODE = 8  # GPUs; NVIDIA DGX and HGX H100
RESERVED = 0.08  # of a GPU's memory: CUDA's context, NCCL's buffers, the allocator's gaps (ours)
_EXPOSED = 0.5  # of the traffic that can overlap with computation (ours)


@dataclass(frozen=True)
class Cluster:
    """What to plan for."""

    gpus: int
    memory: int = H100_MEMORY
    """Bytes of one GPU."""
    flops: float = H100_FLOPS
    """FLOP/s of one GPU, dense bf16."""
    mfu: float = ASSUMED_MFU
    """Share of them that an unsplit model reaches, 0..1."""

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise SnowError(f"--gpus {self.gpus}: give 1 at least")
        if not 0 < self.mfu <= 1:
            raise SnowError(f"--mfu {self.mfu:g} is a share of the GPU's peak between 0 and 1, like 0.4")
        if self.memory < 2**30:
            raise SnowError(f"--gpu-memory {self.memory} bytes is no GPU: write it like 80GB")
        if not self.flops > 0:
            raise SnowError(f"--gpu-flops {self.flops:g}: give the FLOP/s of one GPU in bf16, like 989e12")

    @property
    def usable(self) -> float:
        """Bytes a GPU has for a rank's tensors."""
        return self.memory * (1 - RESERVED)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step, by what they go to."""

    compute: float
    recompute: float
    imbalance: float
    bubble: float
    tensor: float
    context: float
    data: float

    @property
    def total(self) -> float:
        """Seconds of the step."""
        return self.compute + self.recompute + self.imbalance + self.bubble + self.tensor + self.context + self.data


def step_time(model: ModelSettings, vocabulary: int, phase: PhaseSettings, layout: Layout, recompute: Recompute, cluster: Cluster) -> StepTime:
    """A step of the phase's whole batch on all of the cluster's GPUs; ``vocabulary`` is the padded one.

    Raises:
        SnowError: where the layout does not fill the GPUs.
    """
    data = layout.data_parallel(cluster.gpus)
    micro_batches = max(phase.batch // (phase.micro_batch * data), 1)
    tokens = phase.micro_batch * phase.sequence / layout.context  # of a micro-batch on a rank
    speed = cluster.gpus * cluster.flops * cluster.mfu
    compute = phase.tokens_per_step * flops_per_token(model, vocabulary, phase.sequence) / speed
    again = phase.tokens_per_step * _recomputed(model, phase.sequence, recompute) / speed
    head = 6 * vocabulary * model.hidden / flops_per_token(model, vocabulary, phase.sequence)  # the loss head's share of the FLOPs
    uneven = (compute + again) * head * (layout.pipeline - 1)  # the last stage has it all beside a p-th of the rest
    bubble = (compute + again + uneven) * (layout.pipeline - 1) / ((layout.virtual_pipeline or 1) * micro_batches)
    layers = model.layers / layout.pipeline * micro_batches  # layer passes of a rank
    reductions = (6 if recompute == "full" else 4) * 2 * _others(layout.tensor) * tokens * model.hidden * 2
    ring = 3 * _EXPOSED * _others(layout.context) * layout.context * tokens * 2 * model.kv_heads * model.head_size * 2 / layout.tensor
    own = parameters(model, vocabulary) / (layout.tensor * layout.pipeline)
    replicas = data * layout.context
    return StepTime(
        compute, again, uneven, bubble, tensor=layers * reductions / NVLINK, context=layers * ring / _link(layout.tensor * layout.context),
        data=_EXPOSED * _others(replicas) * own * (4 + 2) / _link(layout.tensor * replicas),
    )  # fmt: skip


def _recomputed(model: ModelSettings, sequence: int, recompute: Recompute) -> float:
    """FLOPs a token that are done twice."""
    attention = model.layers * 2 * 2 * model.hidden * (sequence / 2)
    return {"none": 0.0, "selective": attention, "full": attention + 2 * model.layers * matrix_parameters(model)}[recompute]


def _others(size: int) -> float:
    """The part of a ring collective's bytes that a rank sends: (n - 1) / n."""
    return (size - 1) / size


def _link(ranks: int) -> float:
    """Bytes a second within a group of so many neighbouring ranks."""
    return NVLINK if ranks <= NODE else NETWORK
