"""tools/build_index.py: the indices of a recipe's phases, built ahead, away from the GPUs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.stream import DocumentStream
from megatron_snow.recipe.drive import open_road


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="build_index.py",
        description="Builds what training needs to know the order of its samples, on CPUs, into a folder that training maps (train.index_cache). "
        "The folder may be copied to every node's own disk: entries are found by content, wherever data and folder lie.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe whose tokenize arrow has run")
    parser.add_argument("--cache", metavar="FOLDER", help="where the indices go; the recipe's train.index_cache by default")
    parser.add_argument("--phase", help="only this phase")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="change one field of the recipe; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where artefacts are; out/<recipe's name> by default")
    return parser


def build_index(recipe_path: Path, overrides: Sequence[str], out: Path | None, cache: str | None, phase: str | None) -> Path:
    """Build every index of the phases and of validation, or find it there; returns the folder. Raises SnowError."""
    from megatron_snow.blend.cache import cache_folder
    from megatron_snow.training.samples import LanguageSamples, heldout_languages, phase_samples, validation_samples

    recipe, road = open_road(recipe_path, overrides, out)
    cache = cache or recipe.train.index_cache
    folder = cache_folder(cache)
    if folder is None:
        raise SnowError("no folder for the indices: give --cache FOLDER, or set train.index_cache in the recipe")
    tokens = road.folder("tokenize")
    if read_manifest(tokens) is None:
        raise SnowError(f"no tokens in {tokens} yet; run: snow tokenize {recipe_path}")
    if phase is not None and phase not in recipe.train.phases:
        raise SnowError(f"the recipe has no phase {phase!r}; it has: {', '.join(recipe.train.phases)}")
    train = recipe.train.model_copy(update={"index_cache": cache})
    for name, settings in train.phases.items():
        if phase in (None, name):
            data = phase_samples(name, settings, tokens, recipe.training_seed, cache, road.folder("tokenizer"))  # megatron-core's order is built whole here
            validated = validation_samples(train, settings, tokens, recipe.training_seed)
            languages, _ = heldout_languages(train, settings, tokens, recipe.training_seed)
            sets: list[PhaseDataset | LanguageSamples] = [*([data] if isinstance(data, PhaseDataset) else []), *validated.values(), *languages.values()]
            _prepare(name, [pair for one in sets for pair in one.streams()])
            say(f"[{name}] {len(data):,} samples: " + ", ".join(f"{tier} {count:,} ({data.epochs(tier):.2f} passes)" for tier, count in data.counts().items()))
    size = sum(path.stat().st_size for path in folder.glob("*.index"))
    say(f"{format_bytes(size)} of indices in {folder}")
    return folder


def _prepare(name: str, streams: Sequence[tuple[DocumentStream, int]]) -> None:
    work = [(stream, epoch) for stream, samples in streams for epoch in range(stream.passes(samples))]
    with Progress(f"index {name}", len(work), "passes") as bar:
        for stream, epoch in work:
            stream.prepare(epoch)
            bar.advance()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 with the message for what the user can mend."""
    given = build_parser().parse_args(argv)
    try:
        build_index(given.recipe, given.set, given.out, given.cache, given.phase)
    except SnowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
