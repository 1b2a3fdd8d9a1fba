"""What a training run is made of: three phases, each a blend of tiers, a token budget and a learning-rate schedule.

Defaults are the paper's (arXiv 2409.02326); where it is silent the line says so. Durations are
written in tokens or steps and turned into steps by the phase's own batch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Duration, Seconds, Tokens
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.model.settings import Recompute
from megatron_snow.parallel.settings import Fp8Settings, Precision

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class LearningRate(Settings):
    """Linear warm-up from 0 to ``peak``, then a decay to ``end`` at the phase's last token."""

    peak: Positive = 5.3e-4  # paper, section 3: all phases
    end: NotNegative = 0.0  # paper, section 3: phases 2 and 3
    warmup: Duration = Duration(amount=1000, unit="steps")  # paper, section 3: phase 2's re-warm-up
    decay: Literal["cosine", "linear", "constant", "wsd"] = "linear"  # paper, section 3: phase 2
    """``wsd`` holds the peak until ``cooldown`` before the end, then goes linearly; ``constant`` ignores ``end``."""
    cooldown: Duration | None = None
    """Length of wsd's final descent; only for ``decay: wsd``."""

    @model_validator(mode="after")
    def _cooldown_fits(self) -> LearningRate:
        if (self.decay == "wsd") != (self.cooldown is not None):
            raise ValueError(f"cooldown {self.cooldown} does not go with decay {self.decay}: give cooldown for wsd, and only for it")
        return self


class PhaseSettings(Settings):
    """One phase."""

    blend: dict[str, Positive]
    """Tier -> share of the phase's tokens; shares are taken relative to their sum."""
    tokens: Tokens
    """Token horizon; rounded up to whole steps."""
    batch: Count = 512  # paper, section 3: phase 1; not stated for the others
    """Sequences a step, over all replicas."""
    micro_batch: Annotated[Count, RUNTIME] = 1  # ours: fits anywhere; raise it where memory allows
    """Sequences in one forward pass of one replica."""
    sequence: Count = 8192  # paper, section 2
    """Tokens of a sequence."""
    learning_rate: LearningRate = LearningRate()
    max_epochs: Positive = 4.0  # paper, table 6: 4 passes of 12.5B is the choice
    """How often a tier's documents may be repeated; a phase that would need more is refused."""
    hand_off: Literal["weights", "all"] = "weights"  # ours: the paper re-warms the learning rate, not said for AdamW's moments
    """What comes from the phase before: the weights with a fresh optimizer, or its moments and step count too."""

    @model_validator(mode="after")
    def _some_blend(self) -> PhaseSettings:
        if not self.blend:
            raise ValueError("blend names no tier; write it like {standard: 1}")
        return self

    @field_validator("tokens")
    @classmethod
    def _some_tokens(cls, tokens: int) -> int:
        if tokens < 1:
            raise ValueError(f"{tokens} tokens are nothing to train on: give 1 at least, or take the phase out")
        return tokens

    @model_validator(mode="after")
    def _schedule_fits(self) -> PhaseSettings:
        rate = self.learning_rate
        warmup = rate.warmup.steps(self.tokens_per_step)
        if rate.cooldown is None:
            if warmup >= self.steps:
                raise ValueError(f"warmup is {warmup} steps, the phase has {self.steps}: shorten it")
        elif warmup + (cooldown := rate.cooldown.steps(self.tokens_per_step)) >= self.steps:
            raise ValueError(f"warmup is {warmup} steps and cooldown {cooldown}, the phase has {self.steps}: shorten them")
        return self

    @property
    def tokens_per_step(self) -> int:
        """Tokens the optimizer sees in one step."""
        return self.batch * self.sequence

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return -(-self.tokens // self.tokens_per_step)

    def share(self, tier: str) -> float:
        """A tier's share of the phase's samples, 0..1."""
        return self.blend[tier] / sum(self.blend.values())


class OptimizerSettings(Settings):
    """AdamW with decoupled weight decay (none on norms), moments and main weights in fp32, global gradient clipping."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # Llama-2; not stated in the paper
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95  # Llama-2; not stated in the paper
    epsilon: Positive = 1e-8  # AdamW's default; Llama-2 states 1e-5, Megatron-LM's runs keep 1e-8
    weight_decay: NotNegative = 0.1  # Llama-2; not stated in the paper
    clip: NotNegative = 1.0  # Llama-2; not stated in the paper
    """Largest global gradient norm; 0 turns clipping off."""


class ValidationSettings(Settings):
    """Loss by tier. ``heldout`` was never trained on; on a tier that was, it shows how far the model has fitted it."""

    every: Duration = Duration(amount=1000, unit="steps")  # ours: with each checkpoint; the last step is always validated
    samples: Count = 512  # ours: one batch of the paper's
    """Sequences per tier, the same ones each time."""
    tiers: tuple[str, ...] = ("heldout", "standard", "high_quality", "synthetic")


PHASES = {
    "general": PhaseSettings(
        blend={"standard": 1.0}, tokens=500_000_000_000, max_epochs=1.25,  # paper, section 3.1: 500B of 400B unique
        learning_rate=LearningRate(end=5.3e-5, warmup=Duration(amount=600, unit="steps"), decay="cosine"),  # paper, section 3.1
    ),
    "continued": PhaseSettings(blend={"high_quality": 1.0}, tokens=50_000_000_000),  # paper, section 3.2: 4 x 12.5B
    "enhanced": PhaseSettings(
        blend={"synthetic": 1.0}, tokens=5_000_000_000, max_epochs=2.5,  # paper, section 3.3: about 2B unique
        learning_rate=LearningRate(warmup=Duration(amount=100, unit="steps")),  # ours: phase 2's share of its steps (1000 of 11,921)
    ),
}  # fmt: skip


class TrainSettings(Settings):
    """The whole training: phases in order, each starting from the one before."""

    phases: dict[str, PhaseSettings] = PHASES
    optimizer: OptimizerSettings = OptimizerSettings()
    precision: Precision = "bf16"  # ours; not stated in the paper
    """``bf16`` and ``fp8`` keep fp32 main weights; ``fp32`` is for checking layouts against each other."""
    fp8: Fp8Settings = Fp8Settings()
    """Counts where ``precision`` is fp8."""
    recompute: Annotated[Recompute, RUNTIME] = "none"
    """Which activations the backward pass computes again: ``none``, ``selective`` (attention) or ``full``."""
    checkpoint: Annotated[CheckpointSettings, RUNTIME] = CheckpointSettings()
    validation: ValidationSettings = ValidationSettings()
    timeout: Annotated[Seconds, RUNTIME] = 1800  # ours: longer than any save or first compile, short of a lost night
    """How long a process waits for the others before the run ends."""

    @model_validator(mode="after")
    def _some_phase(self) -> TrainSettings:
        if not self.phases:
            raise ValueError("phases names no phase; leave it out for the paper's three")
        return self
