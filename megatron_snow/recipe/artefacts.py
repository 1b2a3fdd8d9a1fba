"""The artefacts of a road as lineage reads them: what was made and trained, not what the recipe would make now."""

from __future__ import annotations

from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import Manifest, read_manifest
from megatron_snow.lineage.places import Artefacts
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road
from megatron_snow.tokens.settings import TokenizeSettings
from megatron_snow.training.settings import PhaseSettings

DATA = ("corpus", "tokenizer", "annotate", "synthesize", "tokenize")


def artefacts_of(recipe: Recipe, road: Road) -> Artefacts:
    """The road's data artefacts, with the settings they and the trained phases were made with.

    A phase that was not trained yet is the recipe's. Raises SnowError where an artefact is missing or the tokens were made of others than are there.
    """
    made = {name: _manifest(road, name) for name in DATA}
    tokens = made["tokenize"]
    for name in DATA[:-1]:
        if tokens.inputs.get(name) != made[name].fingerprint:
            raise SnowError(f"{road.folder('tokenize')} was made of another {name} than {road.folder(name)} is now; run `snow tokenize` first")
    phases = {name: _phase(road, name, settings) for name, settings in recipe.train.phases.items()}
    try:
        tokenize = TokenizeSettings.model_validate(tokens.settings)
    except ValidationError as error:
        raise SnowError(f"{road.folder('tokenize')} was made by another version, whose settings are not understood; run `snow tokenize` again") from error
    return Artefacts(
        road.folder("corpus"), road.folder("annotate"), road.folder("synthesize"), road.folder("tokenize"), road.folder("tokenizer"), tokenize,
        recipe.train.model_copy(update={"phases": phases}), tokens.seed,
    )  # fmt: skip


def training_states(recipe: Recipe, road: Road) -> dict[str, str]:
    """Phase -> ``trained``, ``not trained yet``, or ``trained on other tokens`` (than those that are there now)."""
    tokens = _manifest(road, "tokenize")
    states = {}
    for phase in recipe.train.phases:
        manifest = read_manifest(road.folder(f"train {phase}"))
        read = {} if manifest is None else {name: had for name, had in manifest.inputs.items() if name.startswith("tokenize/")}
        of_these = bool(read) and all(had == tokens.fingerprint_read(name) for name, had in read.items())
        states[phase] = "not trained yet" if manifest is None else "trained" if of_these else "trained on other tokens"
    return states


def _manifest(road: Road, name: str) -> Manifest:
    manifest = read_manifest(road.folder(name))
    if manifest is None:
        raise SnowError(f"no {road.folder(name)}: what was trained on is not known before it is made; run `snow {road.stages[name].arrow}` first")
    return manifest


def _phase(road: Road, name: str, settings: PhaseSettings) -> PhaseSettings:
    manifest = read_manifest(road.folder(f"train {name}"))
    if manifest is None:
        return settings
    try:
        return PhaseSettings.model_validate(manifest.settings["phase"])
    except (ValidationError, KeyError) as error:
        raise SnowError(f"{road.folder(f'train {name}')} was made by another version, whose settings are not understood; train it again") from error
