"""What to do about a loss or gradient that is not finite, and about a loss that jumps.

The decision is a function of losses that every rank has (they are summed over all of them), so all ranks decide alike,
and of numbers that checkpoints carry, so a resumed run decides as the uninterrupted one did.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Annotated, Literal

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.checkpoint.store import History

Action = Literal["ignore", "stop", "skip", "roll_back"]

REMEDY = "lower learning_rate.peak or lengthen its warmup, or set train.anomalies"


class AnomalySettings(Settings):
    """``stop`` ends the run with a message; ``skip`` leaves the step's update out on every rank (weights, moments and step count stay).

    ``roll_back`` goes back to the last checkpoint and on with the step after: the samples in between are not trained on
    again (PaLM, section 5.1, restarted some 100 steps before a spike and skipped 200 to 500 batches). Where that step
    is bad at once, the checkpoint before is taken. The paper is silent on all of this.
    """

    not_finite: Literal["stop", "skip", "roll_back"] = "stop"  # ours: a NaN is a mistake until somebody says otherwise
    """For a loss or gradient norm that is NaN or infinite."""
    spike: Action = "ignore"  # ours
    """For a loss above ``spike_factor`` times the median of the last ``spike_window`` good ones."""
    spike_factor: Annotated[float, Field(gt=1)] = 2.0  # ours: a cross entropy twice its recent median is no noise of a batch
    spike_window: Annotated[int, Field(ge=4, le=1024)] = 128  # ours: long enough for a median, short against a phase
    """Losses that the median is taken of; none counts as a spike before a quarter of them is known."""
    most: Annotated[int, Field(ge=1)] = 10  # ours: more are a trend, not accidents
    """The run stops where more steps than this are skipped in a row, or more roll-backs than this are needed in a phase."""


class Watch:
    """Judges the steps of one phase, in order."""

    def __init__(self, settings: AnomalySettings) -> None:
        self.settings = settings
        self._losses: deque[float] = deque(maxlen=settings.spike_window)
        self._skipped = self.roll_backs = 0
        self._fresh = False  # whether no good step came after the last roll-back

    def restore(self, history: History, rolled_back: bool = False) -> None:
        """Go on from what a checkpoint says; after a roll-back the count of those stays."""
        self._losses = deque(history.losses[-self.settings.spike_window :], maxlen=self.settings.spike_window)
        self._skipped = history.skipped
        if rolled_back:
            self._fresh = True
        else:
            self.roll_backs = history.roll_backs

    @property
    def history(self) -> History:
        """What a checkpoint must carry."""
        return History(losses=tuple(self._losses), skipped=self._skipped, roll_backs=self.roll_backs)

    @property
    def fresh(self) -> bool:
        """Whether the last roll-back has not led to a good step yet: the checkpoint it went to may be bad itself."""
        return self._fresh

    def complaint(self, loss: float) -> str | None:
        """What is wrong with a loss, if something is and the settings care."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self.settings.spike == "ignore" or len(self._losses) < max(2, self.settings.spike_window // 4):
            return None
        median = statistics.median(self._losses)
        return f"the loss {loss:.4g} is {loss / median:.3g} times the median {median:.4g}" if loss > self.settings.spike_factor * median else None

    def good(self, loss: float) -> None:
        """A step was done."""
        self._losses.append(loss)
        self._skipped, self._fresh = 0, False

    def act(self, complaint: str, finite: bool, step: int) -> tuple[Action, str | None]:
        """(What to do about a bad step, the message where that is to stop). ``step`` counts from 1."""
        wanted: Action = self.settings.spike if finite else self.settings.not_finite
        if wanted == "stop":
            return "stop", f"{complaint} at step {step}: {REMEDY}"
        if wanted == "skip":
            self._skipped += 1
            if self._skipped > self.settings.most:
                return "stop", f"{complaint} at step {step}, after {self.settings.most} skipped steps in a row (train.anomalies.most): {REMEDY}"
        if wanted == "roll_back":
            self.roll_backs += 1
            if self.roll_backs > self.settings.most:
                return "stop", f"{complaint} at step {step}, after {self.settings.most} roll-backs in this phase (train.anomalies.most): {REMEDY}"
        return wanted, None
