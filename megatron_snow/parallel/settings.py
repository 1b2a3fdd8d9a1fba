"""How the processes share one model: the layout, and every reason to refuse one before a process group exists.

A layout is tensor x pipeline x context x data processes. The first three come from the recipe; data is what the
machine leaves over unless it is given, so that the same recipe fills one node or a hundred.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import Field

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import Settings

Count = Annotated[int, Field(ge=1)]
Precision = Literal["bf16", "fp32", "fp8"]
"""What matrix products run in; fp8 needs Transformer Engine and keeps bf16 for the rest."""


FP8_CAPABILITY = {"delayed": (8, 9), "tensorwise": (8, 9), "blockwise": (9, 0)}
"""Compute capability each FP8 recipe needs (Transformer Engine 2.11: Ada has FP8 products, blocks are for Hopper)."""


class Fp8Settings(Settings):
    """How Transformer Engine quantises matrix products under ``precision: fp8``; the rest stays bf16, main weights fp32.

    The paper does not state a precision, so all of this is ours.
    """

    recipe: Literal["delayed", "tensorwise", "blockwise"] = "tensorwise"  # ours: needs no amax history, so a resumed run is the same run
    """Where scales come from: past maxima (``delayed``), the tensor at hand, or its 1 x 128 and 128 x 128 blocks."""
    format: Literal["hybrid", "e4m3"] = "hybrid"  # Micikevicius et al. 2022: e4m3 forward, e5m2 for gradients
    """``hybrid`` is e4m3 with e5m2 gradients; ``e4m3`` uses that for all (DeepSeek-V3's choice with blocks)."""
    parameters: bool = False
    """Keep the layers' weights in FP8 and gather them so over the replicas; main weights stay fp32."""
    bf16_first: Annotated[int, Field(ge=0)] = 0
    """Layers at the start that stay in bf16."""
    bf16_last: Annotated[int, Field(ge=0)] = 0
    """Layers at the end that stay in bf16."""
    amax_history: Count = 1024  # Transformer Engine's own default
    """Steps of maxima that ``delayed`` scales by."""

    @property
    def block(self) -> int:
        """What rows and columns of an FP8 product are multiples of (Transformer Engine)."""
        return 128 if self.recipe == "blockwise" else 16

    def check(self, model: ModelShape, layout: Layout, sequence: int, micro_batch: int) -> None:
        """Refuse what Transformer Engine or megatron-core would stumble over.

        Raises:
            SnowError: naming the setting to change.
        """
        if self.recipe == "delayed" and self.bf16_first + self.bf16_last:
            raise SnowError(
                f"fp8.bf16_first {self.bf16_first} and bf16_last {self.bf16_last} do not go with fp8.recipe delayed: "
                "choose tensorwise or blockwise, or set both to 0"
            )
        if self.recipe == "delayed" and self.parameters:
            raise SnowError(
                "fp8.parameters with fp8.recipe delayed trains another model (seen with megatron-core 0.16.1 and Transformer Engine 2.11): "
                "choose tensorwise or blockwise"
            )
        stage = model.layers // layout.pipeline
        if max(self.bf16_first, self.bf16_last) > stage:
            raise SnowError(f"fp8.bf16_first {self.bf16_first} and bf16_last {self.bf16_last}: each pipeline stage has {stage} layers, give no more than that")
        block = self.block
        tokens = sequence * micro_batch // layout.context // (layout.tensor if layout.sequence_parallel else 1)
        for name, size in (("hidden", model.hidden), ("ffn / layout.tensor", model.ffn // layout.tensor), ("tokens of a micro-batch", tokens)):
            if size % block:
                raise SnowError(f"fp8.recipe {self.recipe} multiplies in blocks of {block}, {name} {size} is not a multiple of that: change it or use bf16")


class ModelShape(Protocol):
    """The numbers of a model that a layout divides (``model.settings.ModelSettings`` has them)."""

    @property
    def hidden(self) -> int: ...
    @property
    def ffn(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...


class Layout(Settings):
    """One typed layout of the recipe; everything 1 is the single process."""

    tensor: Count = 1
    """Processes that share each weight matrix (Megatron's tensor parallelism)."""
    pipeline: Count = 1
    """Stages of layers (1F1B schedule)."""
    virtual_pipeline: Annotated[int, Field(ge=2)] | None = None
    """Pieces of the model per stage (interleaved 1F1B); needs pipeline >= 2."""
    context: Count = 1
    """Processes that share each sequence."""
    data: Count | None = None
    """Replicas that share each batch; left out: what the machine holds."""
    sequence_parallel: bool = False
    """Split norms and residuals along the sequence too; needs tensor >= 2."""

    @property
    def model_parallel(self) -> int:
        """Processes of one replica."""
        return self.tensor * self.pipeline * self.context

    def processes(self, devices: int) -> int:
        """Processes to start on a machine with ``devices``: as many replicas as fit, one at least."""
        if self.data is not None:
            return self.model_parallel * self.data
        return max(devices // self.model_parallel, 1) * self.model_parallel

    def data_parallel(self, processes: int) -> int:
        """Replicas among ``processes``. Raises SnowError where the layout does not fill them exactly."""
        if self.data is not None and processes != self.model_parallel * self.data:
            raise SnowError(
                f"the layout {self.describe()} is for {self.model_parallel * self.data} processes, there are {processes}: "
                "leave layout.data out to have it inferred, or start that many"
            )
        if processes < 1 or processes % self.model_parallel:
            raise SnowError(
                f"{processes} processes cannot hold the layout {self.describe()}: start a multiple of {self.model_parallel}, "
                "or lower layout.tensor, layout.pipeline or layout.context"
            )
        return processes // self.model_parallel

    def describe(self) -> str:
        """``tensor 2 x pipeline 2``; ``single process`` where nothing is split."""
        parts = [
            f"{name} {size}"
            for name, size in (("tensor", self.tensor), ("pipeline", self.pipeline), ("context", self.context), ("data", self.data or 1))
            if size > 1
        ]
        return " x ".join(parts) or "single process"

    def check(self, model: ModelShape, vocabulary: int, sequence: int, batch: int, micro_batch: int, processes: int) -> int:
        """Refuse what cannot run; returns the data-parallel size.

        ``vocabulary`` is the padded one; ``batch`` counts sequences a step, ``micro_batch`` sequences a forward pass.

        Raises:
            SnowError: naming the setting to change.
        """
        data = self.data_parallel(processes)
        self._check_tensor(model, vocabulary, sequence)
        if self.context > 1 and sequence % (2 * self.context):
            raise SnowError(f"sequence {sequence} does not split into 2 x layout.context = {2 * self.context} equal chunks: make it a multiple of that")
        if batch % (micro_batch * data):
            raise SnowError(
                f"batch {batch} is not a multiple of micro_batch {micro_batch} x {data} data-parallel replicas = {micro_batch * data}: "
                "change batch or micro_batch"
            )
        self._check_pipeline(model, batch // (micro_batch * data))
        return data

    def _check_tensor(self, model: ModelShape, vocabulary: int, sequence: int) -> None:
        if self.sequence_parallel and self.tensor == 1:
            raise SnowError("layout.sequence_parallel splits what tensor parallelism leaves whole: set layout.tensor to 2 or more, or drop sequence_parallel")
        for name, size in (("heads", model.heads), ("kv_heads", model.kv_heads), ("ffn", model.ffn), ("padded vocabulary", vocabulary)):
            if size % self.tensor:
                remedy = "raise model.vocabulary_multiple" if name.startswith("padded") else f"choose a layout.tensor that divides model.{name}"
                raise SnowError(f"layout.tensor {self.tensor} does not divide the model's {name} {size}: {remedy}")
        if self.sequence_parallel and sequence % (self.tensor * self.context):
            raise SnowError(
                f"sequence {sequence} is not a multiple of layout.tensor x layout.context = {self.tensor * self.context}, "
                "as sequence_parallel needs: change sequence"
            )

    def _check_pipeline(self, model: ModelShape, micro_batches: int) -> None:
        pieces = self.pipeline * (self.virtual_pipeline or 1)
        if self.virtual_pipeline is not None and self.pipeline == 1:
            raise SnowError(f"layout.virtual_pipeline {self.virtual_pipeline} needs layout.pipeline >= 2: set pipeline or drop virtual_pipeline")
        if model.layers % pieces:
            raise SnowError(f"model.layers {model.layers} does not split into {pieces} pipeline pieces: choose pipeline x virtual_pipeline that divides it")
        if self.virtual_pipeline is not None and micro_batches % self.pipeline:
            raise SnowError(
                f"{micro_batches} micro-batches a step is not a multiple of layout.pipeline {self.pipeline}, as interleaving needs: "
                "change batch or micro_batch, or drop virtual_pipeline"
            )
