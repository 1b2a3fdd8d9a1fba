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


def artefacts_of(recipe: Recipe, road: Road) -> Artefacts:
    """The road's data artefacts, with the settings they and the trained phases were made with.

    A phase that was not trained yet is the recipe's. What the tokens were not made of (a tier that no phase reads) need not be there.

    Raises SnowError where an artefact is missing or the tokens were made of others than are there.
    """
    tokens = _manifest(road, "tokenize")
    for read, had in tokens.inputs.items():
        name = read.partition("/")[0]
        if had != _manifest(road, name).fingerprint_read(read):
            raise SnowError(f"{road.folder('tokenize')} was made of another {name} than {road.folder(name)} is now; run `snow tokenize` first")
    phases = {name: _phase(road, name, settings) for name, settings in recipe.train.phases.items()}
    seeds = {name: _seed(road, name, recipe.training_seed) for name in phases}
    try:
        tokenize = TokenizeSettings.model_validate(tokens.settings)
    except ValidationError as error:
        raise SnowError(f"{road.folder('tokenize')} was made by another version, whose settings are not understood; run `snow tokenize` again") from error
    return Artefacts(
        road.folder("corpus"), road.folder("annotate") if _scored(road) else None, road.folder("synthesize"), road.folder("tokenize"),
        road.folder("tokenizer"), tokenize, recipe.train.model_copy(update={"phases": phases}), seeds,
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


def _seed(road: Road, name: str, default: int) -> int:
    """The seed that a phase was trained with: training's own, or the road's."""
    manifest = read_manifest(road.folder(f"train {name}"))
    if manifest is None:
        return default
    own = manifest.settings.get("train", {}).get("seed")
    return manifest.seed if own is None else own


def _scored(road: Road) -> bool:
    """Whether an annotator scored the corpus that is there now."""
    manifest = read_manifest(road.folder("annotate"))
    corpus = _manifest(road, "corpus")
    return manifest is not None and all(corpus.fingerprint_read(read) == had for read, had in manifest.inputs.items() if read.partition("/")[0] == "corpus")
