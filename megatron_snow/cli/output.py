"""``--quiet`` and ``--json``, for every subcommand, and what a subcommand ends with."""

from __future__ import annotations

import os
from typing import Any

import orjson
import typer

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.output import VARIABLE, form


class Result:
    """What a command was asked for: text on standard output, or one JSON object a line."""

    def show(self, values: dict[str, Any], text: str | None) -> None:
        """Write it in the form that was asked for; ``text`` is None where people were told on the way."""
        if form() == "json":
            typer.echo(orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
        elif text is not None:
            typer.echo(text)


def choose_form(arguments: list[str]) -> list[str]:
    """``--quiet`` and ``--json`` taken out of a command line, wherever they stand, and put into the environment. Raises SnowError for both."""
    asked = {flag for flag in ("--quiet", "--json") if flag in arguments}
    if len(asked) == 2:
        raise SnowError("--quiet and --json exclude each other: --json is for programs, --quiet for nobody")
    if asked:
        os.environ[VARIABLE] = asked.pop().removeprefix("--")
    return [argument for argument in arguments if argument not in ("--quiet", "--json")]
