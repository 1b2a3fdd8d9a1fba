"""What a training run is made of: three phases, each a blend of tiers, a token budget and a learning-rate schedule.

Defaults are the paper's (arXiv 2409.02326); where it is silent the line says so. Durations are
written in tokens or steps and turned into steps by the phase's own batch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Duration, Period, Seconds, Tokens
from megatron_snow.blend.settings import FimSettings, MixtureSettings, Weight
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.model.settings import Loss, Recompute
from megatron_snow.parallel.settings import Fp8Settings, Precision
from megatron_snow.training import ramp
from megatron_snow.training.anomalies import AnomalySettings
from megatron_snow.training.base import BaseSettings
from megatron_snow.training.watch_settings import WatchSettings

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class LearningRate(Settings):
    """Linear warm-up from ``start`` to ``peak``, then a decay to ``end`` at the phase's last token.

    With a peak above the rate that the phase before ended with, the warm-up is the paper's re-warm-up.
    """

    start: NotNegative = 0.0  # paper, section 2.3: phase 2's re-warm-up begins at 0
    """What the warm-up begins at; not reached itself: the first of n warm-up steps is 1/n of the way up."""
    peak: Positive = 5.3e-4  # paper, sections 2.2 and 2.3: phases 1 and 2; not stated for 3
    end: NotNegative = 0.0  # paper, section 2.3: phase 2; not stated for 3
    warmup: Duration = Duration(amount=1000, unit="steps")  # paper, section 2.3: phase 2's re-warm-up
    decay: Literal["cosine", "linear", "constant", "wsd"] = "linear"  # paper, section 2.3: phase 2
    """``wsd`` holds the peak until ``cooldown`` before the end, then goes linearly; ``constant`` ignores ``end``."""
    cooldown: Period | None = None
    """Length of wsd's final descent; only for ``decay: wsd``."""

    @model_validator(mode="after")
    def _cooldown_fits(self) -> LearningRate:
        if (self.decay == "wsd") != (self.cooldown is not None):
            raise ValueError(f"cooldown {self.cooldown} does not go with decay {self.decay}: give cooldown for wsd, and only for it")
        for name, value in (("start", self.start), ("end", self.end)):
            if value > self.peak:
                raise ValueError(f"{name} {value:g} is above peak {self.peak:g}: the rate goes up to peak and down from it; lower {name} or raise peak")
        return self


class PhaseSettings(Settings):
    """One phase."""

    blend: dict[str, Weight]
    """Tier -> share of the phase's new data, or a number of tokens (``12.5B``); taken relative to their sum."""
    replay: dict[str, Fraction] = {}  # noqa: RUF012 - settings are frozen. Paper: none; OpenCoder (arXiv 2411.04905) keeps 84 % real data in its last phase
    """Tier -> share of the phase's tokens, 0..1, that is data of earlier phases; ``blend`` shares what is left over.
    ``blend: {synthetic: 1}`` with ``replay: {high_quality: 0.84}`` is 16 % synthetic."""
    tokens: Tokens
    """Token horizon; rounded up to whole steps."""
    batch: Count = 512  # paper, section 2.2: phase 1; not stated for the others
    """Sequences a step, over all replicas."""
    batch_ramp: ramp.BatchRamp | None = None  # paper: none stated
    """A batch that is smaller at first. Changes how many samples a step takes, never their order; the learning rate then goes by tokens."""
    micro_batch: Annotated[Count, RUNTIME] = 1  # ours: fits anywhere; raise it where memory allows
    """Sequences in one forward pass of one replica."""
    sequence: Count = 8192  # paper, section 2
    """Tokens of a sequence."""
    cross_document_attention: bool = True  # ours: not stated in the paper; what Llama-2 and Megatron-LM do by default
    """Whether tokens see the documents before their own in the sequence. False keeps packed documents apart: each has
    positions from 0 and attends to itself alone, as if it had been run by itself (the loss counts the same tokens)."""
    learning_rate: LearningRate = LearningRate()
    max_epochs: Positive = 4.0  # paper, table 6: 4 passes of 12.5B is the choice
    """How often a tier's documents may be repeated; a phase that would need more is refused."""
    mixture: MixtureSettings = MixtureSettings()
    """Shares of languages within tiers, limits of single tiers, and what happens where a tier runs out."""
    validation_tiers: tuple[str, ...] | None = None
    """What this phase is validated on instead of ``validation.tiers``. A phase that neither trains nor validates on a tier is not trained
    again when that tier changes: the first one need not wait for the annotator's last word."""
    fim: FimSettings | None = None  # the paper says nothing of fill in the middle; StarCoder2's rule is ``fim: {}``
    """Fill in the middle; none by default."""
    warn_epochs: Annotated[Positive, RUNTIME] = 4.0  # paper, table 6: HumanEval+ rises up to 4 passes (21.3) and falls at 5 (20.1)
    """Where ``max_epochs`` allows more passes than this, training warns when a tier goes beyond it."""
    hand_off: Literal["weights", "moments", "all"] = "weights"  # ours: the paper re-warms the learning rate, not said for AdamW's moments
    """What comes from the phase before. ``weights``: a fresh optimizer on its weights. ``all``: AdamW's moments and its step count too, as if the
    phases were one run. ``moments``: the moments with the step count at 0 again, so that AdamW's bias correction enlarges the first updates
    (2.2 times with beta 0.9 and 0.95, gone after some tens of steps): for a warm-up from 0 only."""

    @model_validator(mode="after")
    def _some_blend(self) -> PhaseSettings:
        if not self.blend:
            raise ValueError("blend names no tier; write it like {standard: 1}")
        for what, named in (("languages", self.mixture.languages), ("max_epochs", self.mixture.max_epochs)):
            if unknown := named.keys() - self.blend.keys() - self.replay.keys():
                raise ValueError(f"mixture.{what} names the tier {min(unknown)}, the phase has {', '.join((*self.blend, *self.replay))}")
        if twice := self.blend.keys() & self.replay.keys():
            raise ValueError(f"tier {min(twice)} is in blend and in replay: name it once")
        if sum(self.replay.values()) >= 1:
            raise ValueError(
                f"replay takes {sum(self.replay.values()):.0%} of the phase, nothing is left for blend: lower its shares, or put all tiers into blend"
            )
        return self

    @field_validator("tokens")
    @classmethod
    def _some_tokens(cls, tokens: int) -> int:
        if tokens < 1:
            raise ValueError(f"{tokens} tokens are nothing to train on: give 1 at least, or take the phase out")
        return tokens

    @model_validator(mode="after")
    def _ramp_fits(self) -> PhaseSettings:
        if self.batch_ramp is None:
            return self
        start, increment = self.batch_ramp.start, self.batch_ramp.increment
        if start >= self.batch or (self.batch - start) % increment:
            raise ValueError(f"batch_ramp from {start} by {increment} does not reach batch {self.batch}: batch less start must be a multiple of increment")
        whole = self._stages[-1].step
        if whole >= self.steps:
            raise ValueError(f"batch_ramp reaches the whole batch after {whole} steps, the phase has {self.steps}: shorten batch_ramp.over")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> PhaseSettings:
        rate, warmup = self.learning_rate, self.steps_of(self.learning_rate.warmup)
        if rate.cooldown is None:
            if warmup >= self.steps:
                raise ValueError(f"warmup is {warmup} steps, the phase has {self.steps}: shorten it")
        elif (start := ramp.steps_before(self._stages, rate.cooldown, self.sequence, self.steps)) < warmup:
            cooldown = f"{self.steps - start}" if start >= 0 else f"over {self.steps}"
            raise ValueError(f"warmup is {warmup} steps and cooldown {cooldown}, the phase has {self.steps}: shorten them")
        return self

    @property
    def _stages(self) -> list[ramp.Stage]:
        return ramp.stages(self.batch, self.sequence, self.batch_ramp)

    @property
    def batches(self) -> list[int]:
        """Every batch size of the phase, in order."""
        return [stage.batch for stage in self._stages]

    @property
    def tokens_per_step(self) -> int:
        """Tokens the optimizer sees in one step of the whole batch."""
        return self.batch * self.sequence

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return ramp.step_reaching(self._stages, -(-self.tokens // self.sequence))

    @property
    def samples(self) -> int:
        """Sequences of the whole phase."""
        return self.first_sample(self.steps)

    def first_sample(self, step: int) -> int:
        """The first sample of a step (0 is the first step): as many as the steps before it took."""
        return ramp.first_sample(self._stages, step)

    def samples_of(self, step: int) -> range:
        """The samples of a step, in the phase's order."""
        return range(self.first_sample(step), self.first_sample(step + 1))

    def tokens_before(self, step: int) -> int:
        """Tokens the model has seen when a step begins."""
        return self.first_sample(step) * self.sequence

    def steps_of(self, duration: Duration) -> int:
        """A duration from the phase's first step on, in steps, rounded up."""
        return ramp.steps_of(self._stages, duration, self.sequence)

    @property
    def descent(self) -> int:
        """The step at which the learning rate begins to fall from its peak."""
        rate = self.learning_rate
        return ramp.steps_before(self._stages, rate.cooldown, self.sequence, self.steps) if rate.cooldown else self.steps_of(rate.warmup)

    def due(self, every: Duration, step: int) -> bool:
        """Whether something that is done ``every`` so often is due when ``step`` steps are finished."""
        if every.unit == "steps":
            return step % every.amount == 0
        return self.tokens_before(step) // every.amount > self.tokens_before(step - 1) // every.amount

    @property
    def mix(self) -> dict[str, float]:
        """Tier -> weight of all the phase reads, ``replay`` included; only ratios count."""
        if not self.replay:
            return dict(self.blend)
        left = (1 - sum(self.replay.values())) / sum(self.blend.values())
        return {tier: weight * left for tier, weight in self.blend.items()} | self.replay

    def share(self, tier: str) -> float:
        """A tier's share of the phase's samples, 0..1."""
        return self.mix[tier] / sum(self.mix.values())


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

    every: Period = Duration(amount=1000, unit="steps")  # ours: with each checkpoint
    """The last step is always validated, and what a phase starts from where that is another's model."""
    samples: Count = 512  # ours: one batch of the paper's
    """Sequences per tier, the same ones each time."""
    tiers: tuple[str, ...] = ("heldout", "standard", "high_quality", "synthetic")
    """A phase's ``validation_tiers`` go before."""
    languages: Annotated[int, Field(ge=0)] = 8  # ours: as many curves as one chart of the report holds
    """How many of the held-out tier's largest languages are validated apart too, each on documents of its own alone; 0 for none. One that has
    fewer tokens than its sequences take is left out."""
    language_samples: Count | None = None
    """Sequences per language, the same ones each time; as many as ``samples`` by default, which fit the layout as they do."""

    @property
    def per_language(self) -> int:
        """Sequences that a language is validated on."""
        return self.samples if self.language_samples is None else self.language_samples


PHASES = {
    "general": PhaseSettings(
        blend={"standard": 1.0}, tokens=500_000_000_000, max_epochs=1.25,  # paper, section 2.2: 500B of 400B unique
        validation_tiers=("heldout", "standard"),  # ours: whoever changes the annotator keeps 500B tokens of training
        learning_rate=LearningRate(end=5.3e-5, warmup=Duration(amount=600, unit="steps"), decay="cosine"),  # paper, section 2.2
    ),
    "continued": PhaseSettings(blend={"high_quality": 1.0}, tokens=50_000_000_000),  # paper, section 2.3: 4 x 12.5B
    "enhanced": PhaseSettings(
        blend={"synthetic": 1.0}, tokens=5_000_000_000, max_epochs=2.5,  # paper, section 1 and figure 1: about 2B unique
        learning_rate=LearningRate(warmup=Duration(amount=100, unit="steps")),  # ours: phase 2's share of its steps (1000 of 11,921)
    ),
}  # fmt: skip


class TrainSettings(Settings):
    """The whole training: phases in order, each starting from the one before, the first from ``base`` or from fresh weights."""

    phases: dict[str, PhaseSettings] = PHASES
    seed: int | None = Field(default=None, ge=0)
    """Seed of fresh weights, of the order of samples and of what fill in the middle cuts; None: the recipe's. Another one trains another
    model on the same tiers: what an ablation repeats a run with."""
    base: Annotated[BaseSettings | None, RUNTIME] = None  # its content's fingerprint is an input of the first phase; where it lies changes nothing
    """What the first phase starts from where it is not fresh weights: a recipe can begin at any phase."""
    optimizer: OptimizerSettings = OptimizerSettings()
    precision: Precision = "bf16"  # ours; not stated in the paper
    """``bf16`` and ``fp8`` keep fp32 main weights; ``fp32`` is for checking layouts against each other."""
    fp8: Fp8Settings = Fp8Settings()
    """Counts where ``precision`` is fp8."""
    recompute: Annotated[Recompute, RUNTIME] = "none"
    """Which activations the backward pass computes again: ``none``, ``selective`` (attention) or ``full``."""
    loss: Annotated[Loss, RUNTIME] = "fused"
    """Whose loss head: ``fused`` never holds the logits, ``megatron`` is megatron-core's own; they agree to rounding."""
    checkpoint: Annotated[CheckpointSettings, RUNTIME] = CheckpointSettings()
    validation: ValidationSettings = ValidationSettings()
    anomalies: AnomalySettings = AnomalySettings()
    """What to do about a loss or gradient that is not finite, and about a loss that jumps."""
    index_cache: Annotated[str | None, RUNTIME] = None
    """A folder that keeps the indices of samples between runs; on any disk, a node's own one too. May hold environment
    variables: ``$SLURM_TMPDIR/index``. ``tools/build_index.py`` fills it ahead; without one, indices are built at each start."""
    watch: Annotated[WatchSettings, RUNTIME] = WatchSettings()
    timeout: Annotated[Seconds, RUNTIME] = 1800  # ours: longer than any save or first compile, short of a lost night
    """How long a rank may be silent, or all may stand still, before the run ends and names the rank."""

    def validated(self, phase: PhaseSettings) -> tuple[str, ...]:
        """The tiers that a phase is validated on."""
        return self.validation.tiers if phase.validation_tiers is None else phase.validation_tiers

    @model_validator(mode="after")
    def _some_phase(self) -> TrainSettings:
        if not self.phases:
            raise ValueError("phases names no phase; leave it out for the paper's three")
        return self
