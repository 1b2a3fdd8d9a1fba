"""``snow``: one subcommand an arrow, each reading the recipe."""

from __future__ import annotations

from megatron_snow.cli import audit as _audit  # noqa: F401 - registers its command
from megatron_snow.cli import compare as _compare  # noqa: F401 - registers its command
from megatron_snow.cli import trace as _trace  # noqa: F401 - registers its commands
from megatron_snow.cli import verify as _verify  # noqa: F401 - registers its command
from megatron_snow.cli.commands import main

__all__ = ["main"]
