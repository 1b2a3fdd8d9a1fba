"""``snow plan --sample 0.01``: the data arrows, really run on a random share of the sources, and what that says of the whole.

Documents, bytes and tokens are totals of the share times the inverse of it, with the 95 % interval of a simple random sample of units
(a file, a row, a repository's archive); where sizes are very uneven it holds the truth 92 to 94 times in 100 (ours, LOG.md 2026-11-27).
Time: a first run on the fewest units is what any run costs; what the share takes beyond that grows with the input. Duplicates are rarer in a
sample than in the whole: what is kept is an upper bound.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any, TypedDict

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_bytes, format_count, format_seconds
from megatron_snow.quality.settings import AnnotateSettings, JsonlPositives, JsonRows, JudgedPositives
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road

_NORMAL = 1.96  # standard errors on either side of a 95 % interval
_FEW = 50  # units of the run that tells what any run costs (ours: enough that some are kept)
_FEWEST = 10  # of anything that a scaled setting still asks for (ours)


class Estimate(TypedDict):
    """An amount in all, with its 95 % interval."""

    amount: float
    low: float
    high: float


def estimate(recipe: Recipe, road: Road, share: float) -> dict[str, Any]:
    """Run corpus, tokenizer, tokenize and annotate on ``share`` of the units of the sources, in a temporary folder; returns what they come to.

    ``units`` (drawn, of), ``share``, ``corpus`` (documents, bytes, heldout and standard together, ``seconds``), ``tokenize`` (tokens of the
    standard tier, ``seconds``), ``annotate`` (seconds), each an ``Estimate`` or a time; ``notes`` says what could not be estimated, and why.
    Raises SnowError where the share is none, or the sources are missing.
    """
    from megatron_snow.corpus import build
    from megatron_snow.corpus.portion import draw

    if not 0 < share <= 1:
        raise SnowError(f"--sample {share:g}: a share of the sources between 0 and 1, like 0.01")
    with tempfile.TemporaryDirectory(prefix="snow-sample-") as scratch:
        folder = Path(scratch)
        portion = draw(recipe.corpus, recipe.seed, share, folder / "listing", folder / "corpus" / "stages")
        few = draw(recipe.corpus, recipe.seed, 1e-9, folder / "listing", folder / "few" / "stages", min(_FEW, portion.units))
        fixed = _timed(lambda: build(recipe.corpus, recipe.seed, folder / "few"))[0]
        seconds, counts = _timed(lambda: build(recipe.corpus, recipe.seed, folder / "corpus"))
        kept: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for side in ("standard", "heldout"):
            if counts["documents" if side == "standard" else "heldout_documents"]:
                for document in read_documents(folder / "corpus" / side):
                    unit = kept[portion.unit(document)]
                    unit[0] += 1
                    unit[1] += len(document["text"].encode())
        documents, size = ([one[place] for one in kept.values()] for place in (0, 1))
        found: dict[str, Any] = {
            "units": {"drawn": portion.units, "of": portion.of}, "share": portion.share, "notes": [],
            "corpus": {
                "documents": _total(documents, portion.units, portion.of), "bytes": _total(size, portion.units, portion.of),
                "seconds": _scaled(seconds, fixed, portion.units, few.units, portion.of),
            },
        }  # fmt: skip
        _rest(recipe, road, folder, portion.share, sum(size), found)
    return found


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def _total(values: list[int], units: int, of: int) -> Estimate:
    """The sum over all ``of`` units, told from ``values``, those of the ``units`` drawn that are not zero."""
    mean = sum(values) / units
    squares = sum((value - mean) ** 2 for value in values) + (units - len(values)) * mean**2
    error = of * sqrt(squares / max(units - 1, 1) / units * (1 - units / of)) if of else 0.0
    return Estimate(amount=of * mean, low=max(of * mean - _NORMAL * error, sum(values)), high=of * mean + _NORMAL * error)


def _scaled(seconds: float, fixed: float, units: int, few: int, of: int) -> float:
    """Time for all units, from runs over ``few`` and ``units`` of them; where those are the same, in proportion."""
    if units <= few or seconds <= fixed:
        return seconds * of / units
    slope = (seconds - fixed) / (units - few)
    return max(fixed - slope * few, 0) + slope * of


def _rest(recipe: Recipe, road: Road, folder: Path, share: float, size: int, found: dict[str, Any]) -> None:
    """What stands on the corpus: its text as tokens, its files scored."""
    from megatron_snow.quality import annotate
    from megatron_snow.tokens import tokenize, train_tokenizer

    tokenizer = road.folder("tokenizer")
    if road.status("tokenizer").state != "done":
        tokenizer = folder / "tokenizer"
        tokenizer.mkdir()
        try:
            train_tokenizer(recipe.tokenizer, folder / "corpus", tokenizer)
        except SnowError as error:
            found["notes"].append(f"tokenizer, tokenize and annotate were not estimated, a larger --sample may do: {error}")
            return
        if recipe.tokenizer.train:
            found["notes"].append("tokens are counted with a tokenizer trained on the sample, which cuts finer than one trained on all")
    (folder / "tokens").mkdir()
    seconds, counts = _timed(lambda: tokenize(recipe.tokenize, recipe.seed, {"standard": folder / "corpus" / "standard"}, tokenizer, folder / "tokens"))
    all_bytes = found["corpus"]["bytes"]
    standard = sum(len(document["text"].encode()) for document in read_documents(folder / "corpus" / "standard"))
    rate = counts["tokens"] / max(standard, 1) * (1 - recipe.corpus.heldout_fraction)
    tokens = Estimate(amount=all_bytes["amount"] * rate, low=all_bytes["low"] * rate, high=all_bytes["high"] * rate)
    found["tokenize"] = {"tokens": tokens, "seconds": seconds * all_bytes["amount"] / max(size, 1)}
    (folder / "annotate").mkdir()
    try:
        scaled = annotation_of_share(recipe.annotate, share)
        seconds, _ = _timed(lambda: annotate(scaled, recipe.seed, folder / "corpus", tokenizer, folder / "annotate"))
        found["annotate"] = {"seconds": seconds / share}
    except SnowError as error:
        found["notes"].append(f"annotate was not estimated: {error}")
    found["notes"].append("synthesize was not estimated: it depends on the server it asks")


def annotation_of_share(settings: AnnotateSettings, share: float) -> AnnotateSettings:
    """The settings with every number of files and tokens scaled to a share of the sources, so that the time they take scales back with it.

    What comes from a file of the user's is a share of the rows that it has, where those are fewer than are asked for. Raises SnowError where
    such a file is missing, and for files that people judged, which a share of the sources need not hold.
    """
    from megatron_snow.quality.jsonl import row_names

    def part(number: int) -> int:
        return max(_FEWEST, round(number * share))

    def rows(source: JsonRows, index: int) -> dict[str, int]:
        return {"count": part(min(source.count, sum(1 for _ in row_names(source, index))))}

    positives = []
    for index, source in enumerate(settings.positives if settings.labels is None else ()):
        if isinstance(source, JudgedPositives):
            raise SnowError(f"annotate.positives[{index}] are files that people judged, and the share drawn need not hold them")
        positives.append(source.model_copy(update=rows(source, index) if isinstance(source, JsonlPositives) else {"count": part(source.count)}))
    more: dict[str, Any] = {"negatives": part(settings.negatives)}
    if settings.labels is None:
        more["positives"] = tuple(positives)
    else:
        more["labels"] = settings.labels.model_copy(update=rows(settings.labels, -1))
    if harder := settings.hard_negatives:
        more["hard_negatives"] = harder.model_copy(update={"pool": part(harder.pool), "add": part(harder.add)})
    if repetition := settings.repetition:
        more["repetition"] = repetition.model_copy(update={"horizon": part(repetition.horizon)})
    else:
        more["tokens"] = part(settings.tokens)
    if settings.max_documents is not None:
        more["max_documents"] = part(settings.max_documents)
    return settings.model_copy(update=more)


def render_estimate(found: dict[str, Any]) -> str:
    """The estimate in words."""
    units, corpus = found["units"], found["corpus"]
    lines = [
        f"Estimate from {units['drawn']:,} of {units['of']:,} files, rows or repositories ({found['share']:.2%}), really run; 95 % intervals:",
        f"  corpus    {_words(corpus['documents'], format_count)} documents, {_words(corpus['bytes'], format_bytes)}; {_here(corpus)}",
    ]
    if "tokenize" in found:
        lines.append(f"  tokenize  {_words(found['tokenize']['tokens'], format_count)} tokens of the standard tier; {_here(found['tokenize'])}")
    if "annotate" in found:
        lines.append(f"  annotate  {_here(found['annotate'])}")
    lines.append("  Duplicates are rarer in a sample than in the whole: what is kept is an upper bound.")
    lines += [f"  {note}" for note in found["notes"]]
    return "\n".join(lines)


def _here(part: dict[str, Any]) -> str:
    return f"{format_seconds(part['seconds'])} on this machine"


def _words(one: Estimate, shown: Callable[[float], str]) -> str:
    return f"{shown(_short(one['amount']))} ({shown(_short(one['low']))} to {shown(_short(one['high']))})"


def _short(number: float) -> float:
    return float(f"{number:.3g}")
