"""How much memory a rank needs: counted from the tensors that live at the peak of a training step.

The peak is where the backward pass of the last micro-batch that a stage holds begins: all its activations are still
there, and the loss head or the first layer's backward works beside them. Per token of a micro-batch, what each kind of
kernels keeps for the backward pass, in elements of the working precision unless said otherwise (h hidden, f ffn, q and k the
widths of all query and all key heads; t tensor-parallel size, and r = 1/t for what sequence parallelism splits too, else 1):

- torch's layers: a norm keeps its fp32 input and normalised input and its output; attention query, key and value inside the
  projection's output, the first two rotated, its own output: (3 q + 3 k) / t; SwiGLU five tensors of f / t, three where it is fused (CUDA).
- Transformer Engine's: a norm its input and output, attention the same (3 q + 3 k) / t, SwiGLU 3 f / t; in fp8 the inputs of
  matrix products are kept at one byte.

Checked against the resident set of CPU runs by ``tests/training/test_memory.py``, against CUDA's peak by ``make gpu``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from megatron_snow.kernels.chunks import chunk_for
from megatron_snow.model.settings import ModelSettings, Recompute, matrix_parameters
from megatron_snow.parallel.settings import Layout, Precision
from megatron_snow.training.settings import PhaseSettings

Kernels = Literal["cpu", "torch_cuda", "transformer_engine"]
"""Whose layers run: torch's on a CPU, torch's on a GPU, Transformer Engine's on a GPU."""
Head = Literal["logits", "fused"]
"""The loss head: all of a micro-batch's logits at once, or a chunk of them at a time."""

RUNTIME = {"cpu": 28 * 2**20, "torch_cuda": 96 * 2**20, "transformer_engine": 160 * 2**20}
"""Bytes beside the tensors. CPU: code pages and packed matrices first touched in a step (ours, LOG.md 2026-11-26). CUDA: cuBLAS's workspace of
32 MiB a stream and Transformer Engine's own of as much (ours: a few of each)."""
BATCH_BYTES = 24  # a token's id, label and position, int64 each


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one rank at its peak, of the pipeline stage that needs most."""

    stage: int
    """Which pipeline stage that is, 0 for the first."""
    parameters: float
    gradients: float
    optimizer: float
    """fp32 main parameters (none in fp32 training) and AdamW's two moments, this rank's share."""
    activations: float
    """Kept for the backward pass, over all micro-batches in flight."""
    working: float
    """What the loss head or the first layer's backward, whichever is more, takes beside them; the step's batches."""
    runtime: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.working + self.runtime


def estimate_memory(
    model: ModelSettings, vocabulary: int, phase: PhaseSettings, layout: Layout, precision: Precision, recompute: Recompute, processes: int,
    kernels: Kernels = "transformer_engine", head: Head = "fused",
) -> MemoryEstimate:  # fmt: skip
    """The peak of training ``phase`` on ``processes`` ranks; ``vocabulary`` is the padded one.

    Raises:
        SnowError: where the layout does not fill the processes.
    """
    rank = _Rank(model, vocabulary, phase, layout, precision, recompute, layout.data_parallel(processes), kernels, head)
    return max((rank.at(stage) for stage in range(layout.pipeline)), key=lambda estimate: estimate.total)


def checkpoint_bytes(model_parameters: int, precision: Precision) -> int:
    """A checkpoint: the weights, the fp32 main parameters where the weights are bf16, and two fp32 moments."""
    return model_parameters * (4 + 8 if precision == "fp32" else 2 + 4 + 8)


@dataclass(frozen=True)
class _Rank:
    model: ModelSettings
    vocabulary: int
    phase: PhaseSettings
    layout: Layout
    precision: Precision
    recompute: Recompute
    data: int
    kernels: Kernels
    head: Head

    def at(self, stage: int) -> MemoryEstimate:
        count = self._parameters(stage)
        shards = self.data * self.layout.context  # megatron's distributed optimizer splits over both
        full = self.precision == "fp32"
        kept, working = self._passes(stage)
        return MemoryEstimate(
            stage, parameters=count * self._element + self._fp8_copies(stage), gradients=count * 4,
            optimizer=count * (8 if full else 12) / shards, activations=kept, working=working + self._batches, runtime=RUNTIME[self.kernels],
        )  # fmt: skip

    @property
    def _element(self) -> int:
        return 4 if self.precision == "fp32" else 2

    @property
    def _tokens(self) -> float:
        """Tokens of a micro-batch on this rank."""
        return self.phase.micro_batch * self.phase.sequence / self.layout.context

    @property
    def _micro_batches(self) -> int:
        return max(self.phase.batch // (self.phase.micro_batch * self.data), 1)

    @property
    def _batches(self) -> float:
        return self._micro_batches * self._tokens * BATCH_BYTES

    @property
    def _split(self) -> float:
        """The part of the residual stream on this rank."""
        return 1 / self.layout.tensor if self.layout.sequence_parallel else 1.0

    @property
    def _layers(self) -> int:
        return self.model.layers // self.layout.pipeline

    def _parameters(self, stage: int) -> float:
        model, last = self.model, self.layout.pipeline - 1
        count = self._layers * (matrix_parameters(model) / self.layout.tensor + 2 * model.hidden)
        table = self.vocabulary * model.hidden / self.layout.tensor
        tables = (stage == 0) + (stage == last and (last > 0 or not model.tied))  # a tied one is on both ends of a pipeline
        return count + tables * table + (stage == last) * model.hidden

    def _fp8_copies(self, stage: int) -> float:
        """Transformer Engine keeps the layers' weights in fp8 too, as rows and as columns."""
        return 2 * self._layers * matrix_parameters(self.model) / self.layout.tensor if self.precision == "fp8" else 0.0

    def _norm(self) -> float:
        """Bytes a token that a norm keeps."""
        h, element = self.model.hidden, self._element
        each = {"cpu": 4 + 4 + element, "torch_cuda": 2 * element, "transformer_engine": 3 if self.precision == "fp8" else 2 * element}
        return each[self.kernels] * h * self._split

    def _layer(self) -> float:
        """Bytes a token that a whole layer keeps."""
        model, element, tensor = self.model, self._element, self.layout.tensor
        query, key_value = model.heads * model.head_size, model.kv_heads * model.head_size
        attention = (3 * query + 3 * key_value) * element + 4 * model.heads + (query if self.precision == "fp8" else 0)
        swiglu = {"cpu": 5, "torch_cuda": 3, "transformer_engine": 3}[self.kernels] * element * model.ffn
        if self.precision == "fp8":
            swiglu = 2 * element * model.ffn + model.ffn
        return 2 * self._norm() + (attention + swiglu) / tensor

    def _in_flight(self, stage: int) -> float:
        """Micro-batches whose activations a stage holds at once, each of all its layers (1F1B; interleaved: Narayanan et al. 2021)."""
        stages, pieces = self.layout.pipeline, self.layout.virtual_pipeline or 1
        if pieces == 1:
            return min(stages - stage, self._micro_batches)
        warmup = 2 * (stages - stage - 1) + (pieces - 1) * stages
        return min(warmup + 1, self._micro_batches * pieces) / pieces

    def _passes(self, stage: int) -> tuple[float, float]:
        """(bytes kept for the backward pass, bytes that work beside them), at the peak."""
        flight, element, h = self._in_flight(stage), self._element, self.model.hidden
        stream = h * element * self._split
        layer, last = self._layer(), stage == self.layout.pipeline - 1
        border = 2 * stream * flight if self.layout.pipeline > 1 else 0.0  # what came from the stage before and went to the next
        final = self._norm() if last else 0.0
        head = self._head() if last else 0.0
        backward = 2 * stream + self.model.ffn * element / self.layout.tensor
        if self.recompute == "full":  # the layers' inputs; one layer at a time comes back
            return self._tokens * (self._layers * flight * stream + border + final), max(self._tokens * (layer + backward), head)
        if self.recompute == "selective" and self.kernels != "cpu":
            layer -= 4 * self.model.heads / self.layout.tensor  # the attention's statistics; its output is the next product's input anyway
        return self._tokens * (self._layers * flight * layer + border + final), max(self._tokens * backward, head)

    def _head(self) -> float:
        """Logits, their fp32 copy (which becomes the gradient in place), of a micro-batch or of a chunk of it."""
        columns = self.vocabulary / self.layout.tensor
        copy = 4 if self.precision != "fp32" else 0
        if self.head == "logits":
            return self._tokens * columns * (self._element + copy)
        device = "cpu" if self.kernels == "cpu" else "cuda"
        chunk = min(chunk_for(round(self._tokens), self.model.hidden, device, self.layout.tensor), self._tokens)
        gradient = self._tokens * self.model.hidden * self._element  # of the hidden states, made in the forward pass
        weight = columns * self.model.hidden * self._element
        buffer = max(chunk * columns * self._element, weight)  # the chunk's logits, then what autograd is handed for the weight
        return buffer + gradient + (weight if device == "cpu" and copy else 0)  # on the CPU a chunk's part of the weight's gradient
