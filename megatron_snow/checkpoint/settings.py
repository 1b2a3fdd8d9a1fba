"""How often to save and how many to keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Duration, Period


class CheckpointSettings(Settings):
    """The checkpoint policy of a phase; the last step of a phase is always saved."""

    every: Period = Duration(amount=1000, unit="steps")  # ours: 4.2B of the paper's tokens, under 1 % of phase 1 to lose
    keep: Annotated[int, Field(ge=1)] = 2  # ours: the newest may be on a disk that just failed
    """How many of the newest checkpoints stay."""
