"""How often to save, how, and which checkpoints to keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Duration, Period, Seconds


class CheckpointSettings(Settings):
    """The checkpoint policy of a phase; the last step of a phase is always saved."""

    every: Period = Duration(amount=1000, unit="steps")  # ours: 4.2B of the paper's tokens, under 1 % of phase 1 to lose
    keep: Annotated[int, Field(ge=1)] = 2  # ours: the newest may be on a disk that just failed
    """How many of the newest checkpoints stay."""
    keep_every: Period | None = None
    """The first checkpoint of each such stretch (steps or tokens of the phase) stays for good."""
    asynchronous: bool = True
    """Training goes on while a copy in host memory is written; takes that memory on each rank. False waits for the disk."""
    grace: Seconds = 60  # ours: twice Slurm's KillWait of 30 s; a job's --signal should give at least this
    """How long a stop signal may take to save and end; a save that would not be done by then is given up, the one before it stays."""
