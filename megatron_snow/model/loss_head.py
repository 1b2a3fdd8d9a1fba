"""GPTModel whose loss never holds the logits, through what megatron-core lets a subclass replace.

With labels, the output layer hands its input and weight on instead of multiplying them, and ``compute_language_model_loss``
(public, there to be replaced) gives both to the fused loss. Without labels the model answers logits as ever. Vocabulary shards,
sequence parallelism, the copy of a tied weight on the last pipeline stage and Megatron's fp32 main gradients work as with
megatron-core's own loss; the two agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import ColumnParallelLinear

from megatron_snow.kernels.loss import linear_cross_entropy


@dataclass(frozen=True)
class Unmultiplied:
    """What logits would be made of."""

    hidden: torch.Tensor
    """[sequence, batch, h], this process's part of the sequence under sequence parallelism."""
    weight: torch.Tensor
    """[V, h], this process's shard of the vocabulary."""


class OutputLayer(ColumnParallelLinear):  # type: ignore[misc]
    """The output layer, over the weight of the one it replaces."""

    def __init__(self, replaced: ColumnParallelLinear) -> None:
        super().__init__(
            replaced.input_size, replaced.output_size, config=replaced.config, init_method=replaced.config.init_method, bias=False,
            gather_output=replaced.gather_output, skip_weight_param_allocation=True, tp_group=replaced.tp_group,
        )  # fmt: skip
        self.weight = replaced.weight
        self.handing_on = False
        """Whether a loss is going to be asked for."""

    def forward(self, input_: torch.Tensor, weight: torch.Tensor | None = None, runtime_gather_output: bool | None = None) -> tuple[Any, None]:
        """Logits, or what they are made of."""
        if self.handing_on:
            return Unmultiplied(input_, self.weight if weight is None else weight), None
        logits, _ = super().forward(input_, weight, runtime_gather_output)
        return logits, None


class FusedLossModel(GPTModel):  # type: ignore[misc]
    """GPTModel with the fused loss."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.expected: torch.Tensor | float | None = None
        if self.post_process:
            assert not self.config.defer_embedding_wgrad_compute and not self.config.gradient_accumulation_fusion, "the fused loss does both itself"
            replaced: ColumnParallelLinear = self.output_layer  # type: ignore[has-type]
            self.output_layer = OutputLayer(replaced)

    def forward(self, *inputs: Any, labels: torch.Tensor | None = None, expected_gradient: torch.Tensor | float | None = None, **named: Any) -> torch.Tensor:
        """Losses [batch, sequence] in fp32 with ``labels`` of that shape, else logits (the last stage; others: hidden states).

        ``expected_gradient``: what the backward pass is going to be given for each loss, [batch, sequence] or one number; saves
        it a second product of hidden states and weight. It is checked.
        """
        if self.post_process:
            self.output_layer.handing_on = labels is not None
            self.expected = expected_gradient
        return super().forward(*inputs, labels=labels, **named)

    def compute_language_model_loss(self, labels: torch.Tensor, logits: Unmultiplied) -> torch.Tensor:
        """Losses [batch, sequence] of labels of that shape."""
        hidden, weight = logits.hidden, logits.weight
        expected = self.expected
        if isinstance(expected, torch.Tensor):
            expected = expected.expand_as(labels).t().reshape(-1).float()
        losses = linear_cross_entropy(
            hidden.flatten(0, 1), weight, labels.t().reshape(-1), reduction="none", group=self.output_layer.tp_group,
            sequence_parallel=self.output_layer.sequence_parallel, expected_gradient=expected, main_grad=getattr(weight, "main_grad", None),
        )  # fmt: skip
        return losses.view(labels.size(1), labels.size(0)).t().contiguous()
