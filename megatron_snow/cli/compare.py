"""``snow compare``: two models' results, and which differences are more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megatron_snow.cli.commands import app
from megatron_snow.cli.output import Result


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="An evaluate artefact's folder, or its results.json.")],
    second: Annotated[Path, typer.Argument(help="The other model's, on the same benchmarks.")],
) -> None:
    """Pass@1 of the second model minus the first's on each benchmark: paired bootstrap interval, McNemar's exact test, and the verdict in words."""
    from megatron_snow.evaluation.comparison import as_json, differences, lines

    found = differences(first, second)
    Result().show(as_json(found), "\n".join(lines(found)))
