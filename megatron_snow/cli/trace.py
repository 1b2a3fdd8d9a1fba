"""``snow trace`` and ``snow takedown``: where training data came from, and what goes when a repository has to go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.cli.commands import Out, Overrides, RecipePath, app
from megatron_snow.cli.output import Result


@app.command()
def trace(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    step: Annotated[int | None, typer.Option("--step", help="What this training step read: its samples, documents, files, where they came from.")] = None,
    phase: Annotated[str | None, typer.Option("--phase", help="The phase the step is of; the first by default.")] = None,
    repo: Annotated[
        list[str] | None, typer.Option("--repo", metavar="OWNER/NAME", help="Was it in? In which tier, at which steps, or dropped why? May be repeated.")
    ] = None,
) -> None:
    """From a training step to its files and their repositories, or from a repository to the steps that read it.

    Answers from what is in the output folder: what was made and trained, whatever the recipe says now. --json gives everything.
    """
    from megatron_snow.recipe.artefacts import artefacts_of, training_states
    from megatron_snow.recipe.drive import open_road

    if (step is None) == (not repo):
        raise SnowError("trace what? give either --step N (and --phase), or --repo OWNER/NAME")
    if phase is not None and step is None:
        raise SnowError("--phase goes with --step: a repository is looked for in all phases")
    checked, road = open_road(recipe, overrides or [], out)
    artefacts, states = artefacts_of(checked, road), training_states(checked, road)
    result = Result()
    if step is not None:
        from megatron_snow.lineage.step import trace_step
        from megatron_snow.lineage.words import render_step

        phase = phase or next(iter(checked.train.phases))
        if phase not in states:
            raise SnowError(f"the recipe has no phase {phase!r}; it has: {', '.join(states)}")
        if states[phase] == "trained on other tokens":
            raise SnowError(f"phase {phase} was trained on other tokens than {artefacts.tokens} holds now: what it read can no longer be told from here")
        found = trace_step(artefacts, phase, step)
        result.show(dict(found) | {"state": states[phase]}, render_step(found))
        return
    from megatron_snow.lineage.repository import trace_repositories
    from megatron_snow.lineage.words import render_repository

    for name in repo or []:
        one = trace_repositories(artefacts, {name})
        result.show(dict(one) | {"states": states}, render_repository(one, states))


@app.command()
def takedown(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Out = None,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="Repository names, one a line, # comments; the recipe's corpus.take_down by default.")
    ] = None,
) -> None:
    """What taking repositories down would change: files and tokens each tier loses, steps that read them, arrows that run again.

    Changes nothing. To do it: set corpus.take_down to the list in the recipe and `snow run` it.
    """
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.recipe.take_down import render_changes, take_down_changes

    checked, road = open_road(recipe, overrides or [], out)
    changes = take_down_changes(checked, road, listed)
    Result().show(changes, render_changes(changes))
