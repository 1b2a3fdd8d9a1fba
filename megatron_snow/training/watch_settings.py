"""What a run shows while it goes on, and what it warns about. Nothing here changes the result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from megatron_snow.artifacts.settings import Settings


class WandbSettings(Settings):
    """Weights & Biases (the package ``wandb``, extra ``watch``)."""

    project: str
    entity: str | None = None
    """Team or user; the account's default where left out."""
    mode: Literal["online", "offline"] = "online"
    """``offline`` writes a folder for ``wandb sync`` to send later, from a machine with a network."""


class WatchSettings(Settings):
    """Beside progress and the JSON-lines files, which are always there."""

    tensorboard: bool = False
    """Write event files into ``tensorboard/`` beside the metrics (the package ``tensorboard``, extra ``watch``)."""
    wandb: WandbSettings | None = None
    peak_flops: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """FLOP/s of one device, for the model FLOPs utilisation. Left out: NVIDIA's number for dense bf16 where the GPU is known, no utilisation elsewhere."""
    overfit_validations: Annotated[int, Field(ge=1)] = 3  # ours: one rise or two are noise of the learning rate
    """Over-fitting is told when the loss of a tier that is trained on falls at so many validations in a row, while another tier's rises."""
    overfit_margin: Annotated[float, Field(ge=0)] = 0.02  # ours: nats a token; 2 % of perplexity, above what one seed differs from another
    """By how much each must have fallen or risen over them."""
