"""Model, optimizer and schedule of one rank: what a training step is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import OptimizerConfig
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.build import build_chunks, transformer_config
from megatron_snow.model.loss_head import FusedLossModel
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.groups import Place, on_last_stage, total
from megatron_snow.parallel.settings import Layout
from megatron_snow.parallel.stepping import step_if_finite
from megatron_snow.training.batches import Batch
from megatron_snow.training.settings import PhaseSettings, TrainSettings

_REMEDY = "lower learning_rate.peak or lengthen its warmup"


class Outcome(NamedTuple):
    """What came of a step."""

    loss: float
    """Mean loss a token."""
    norm: float | None
    """Gradient norm before clipping; None where the loss was refused."""
    complaint: str | None
    """Why the update was left out, None where it was done."""
    stopping: bool
    """Whether any rank wants to stop."""


class Engine:
    """One rank's pieces of the model under DDP, and the distributed optimizer over them."""

    def __init__(
        self, train: TrainSettings, phase: PhaseSettings, model: ModelSettings, vocabulary: int, layout: Layout, backend: Backend, place: Place
    ) -> None:
        self.phase, self.backend, self.place = phase, backend, place
        self.weight_decay = train.optimizer.weight_decay
        self.config = transformer_config(model, layout, backend, train.precision, train.recompute, train.fp8)
        self.chunks = build_chunks(self.config, model, vocabulary, phase.sequence, layout, backend, train.loss)
        """The bare models, for initialisation and checkpoints."""
        overlap = backend.overlap and place.data * place.context > 1
        self.wrapped = _wrap(self.config, self.chunks, overlap)
        self.optimizer = backend.optimizer(_optimizer_config(train, phase, overlap), self.wrapped)
        self.config.grad_scale_func = self.optimizer.scale_loss
        self.config.finalize_model_grads_func = finalize_model_grads
        if overlap:
            no_sync = [chunk.no_sync for chunk in self.wrapped]
            self.config.no_sync_func = no_sync if len(no_sync) > 1 else no_sync[0]

    def step(self, batches: list[Batch], rate: float, number: int, stop: bool) -> tuple[float, float, bool]:
        """One optimizer step; returns (mean loss a token, gradient norm before clipping, whether any rank wants to stop).

        ``number`` names the step in messages (1 is the first).

        Raises:
            SnowError: on every rank, where the loss or the gradient is not finite.
        """
        done = self.try_step(batches, rate, stop, lambda loss: None if math.isfinite(loss) else f"the loss is {loss}")
        if done.complaint is not None or done.norm is None:
            raise SnowError(f"{done.complaint} at step {number}: {_REMEDY}")
        return done.loss, done.norm, done.stopping

    def try_step(self, batches: list[Batch], rate: float, stop: bool, complaint: Callable[[float], str | None]) -> Outcome:
        """One optimizer step, unless ``complaint`` has something to say about the loss, or the gradient is not finite.

        Then weights, moments and step count stay as they were, on every rank: all have the same loss and norm.
        """
        for chunk in self.wrapped:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        loss, stopping = self._agree(self._run(batches, forward_only=False), stop)
        if (said := complaint(loss)) is not None:
            return Outcome(loss, None, said, stopping)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["weight_decay"] = self.weight_decay * group["wd_mult"]  # 0 for norms: megatron's own scheduler applies it, nothing else does
        norm = step_if_finite(self.optimizer)
        return Outcome(loss, norm, None if math.isfinite(norm) else f"the gradient norm is {norm}", stopping)

    def settle(self) -> None:
        """Bring every replica's weights up to the last step; before they are read other than by the next one.

        With overlap the replicas' new weights are gathered by the next forward pass, layer by layer. Every rank calls it.
        """
        for chunk in self.wrapped:
            if chunk.ddp_config.overlap_param_gather:
                chunk.start_param_sync(force_sync=True)

    def loss(self, batches: list[Batch]) -> float:
        """Mean loss a token over all ranks' batches, without training on them."""
        self.settle()
        for chunk in self.wrapped:
            chunk.eval()
        with torch.no_grad():
            local = self._run(batches, forward_only=True)
        for chunk in self.wrapped:
            chunk.train()
        return self._agree(local, False)[0]

    def _run(self, batches: list[Batch], forward_only: bool) -> float:
        """Megatron's schedule over the micro-batches; this rank's mean loss (0 where it computes none)."""
        several = len(self.wrapped) > 1
        rows, columns = batches[0]["tokens"].shape
        iterators: Any = [iter(batches) for _ in self.wrapped] if several else iter(batches)
        reported = get_forward_backward_func()(
            forward_step_func=partial(_forward, context=self.place.context, micro_batches=len(batches)), data_iterator=iterators,
            model=self.wrapped if several else self.wrapped[0],
            num_microbatches=len(batches), seq_length=columns * self.place.context, micro_batch_size=rows, forward_only=forward_only,
        )  # fmt: skip
        return sum(float(one["loss"]) for one in reported) / len(batches) if on_last_stage() else 0.0

    def _agree(self, local: float, stop: bool) -> tuple[float, bool]:
        counted = local if on_last_stage() and self.place.tensor_rank == 0 else 0.0  # tensor ranks hold the same loss
        loss, stops = total([counted, float(stop)], self.backend)
        return loss / (self.place.data * self.place.context), stops > 0


def _wrap(config: TransformerConfig, chunks: list[Any], overlap: bool) -> list[DistributedDataParallel]:
    wrapping = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True, use_distributed_optimizer=True, overlap_grad_reduce=overlap, overlap_param_gather=overlap, fp8_param_gather=config.fp8_param
    )
    casted = [Float16Module(config, chunk) for chunk in chunks] if config.bf16 else chunks
    return [DistributedDataParallel(config, wrapping, chunk, disable_bucketing=index > 0) for index, chunk in enumerate(casted)]


def _optimizer_config(train: TrainSettings, phase: PhaseSettings, overlap: bool) -> OptimizerConfig:
    adam = train.optimizer
    return OptimizerConfig(
        optimizer="adam", lr=phase.learning_rate.peak, min_lr=phase.learning_rate.end, weight_decay=adam.weight_decay, adam_beta1=adam.beta1,
        adam_beta2=adam.beta2, adam_eps=adam.epsilon, clip_grad=adam.clip, use_distributed_optimizer=True, bf16=train.precision != "fp32",
        overlap_param_gather=overlap,
        params_dtype=torch.float32 if train.precision == "fp32" else torch.bfloat16, fp8_recipe=train.fp8.recipe if train.precision == "fp8" else None,
    )  # fmt: skip


def _fused(model: Any) -> bool:
    """Whether a wrapped model has the fused loss."""
    while not isinstance(model, GPTModel):
        model = model.module
    return isinstance(model, FusedLossModel)


def _forward(batches: Iterator[Batch], model: Any, context: int, micro_batches: int) -> tuple[torch.Tensor, Callable]:
    """Megatron's forward step: the model's output, and what makes a loss of it on the last stage."""
    batch = next(batches)
    promised = {}
    if model.training and _fused(model):  # a loss's gradient: its weight in the mean below, divided by the schedule
        promised["expected_gradient"] = (batch["weights"] if "weights" in batch else 1 / batch["labels"].numel()) / micro_batches
    output = model(batch["tokens"], batch["positions"], None, labels=batch["labels"], packed_seq_params=batch.get("packed"), **promised)

    def loss_of(losses: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mean = (losses.float() * batch["weights"]).sum() if "weights" in batch else losses.float().mean()
        # the schedule multiplies by the context size and divides by the micro-batches, in place: the report is a copy
        return mean / context, {"loss": mean.detach().clone()}

    return output, loss_of
