"""All signatures of a road, from its published artefacts; what an arrow has not made is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import orjson

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.signatures import distributions, diversity
from megatron_snow.signatures.overfitting import GAP_THRESHOLD, RISE_THRESHOLD, phase_gap
from megatron_snow.signatures.sampling import Sample, Survey, survey

FORMAT = 1
_MOST_FILES = 1000  # of the standard tier, for its diversity (ours: seconds)


def measure(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The signatures of a road's folders by stage name (``corpus``, ``annotate``, ``synthesize``, ``train <phase>``).

    ::

        {"format": 1, "alarms": [text, ...],
         "overfitting": {"rise_threshold": x, "gap_threshold": x, "phases": {phase: {"points": [{"step", "tokens", "high_quality", "heldout", "gap"}],
                         "widened": x, "rise": x, "alarm": false}}},
         "bias": {tier: {"files": n, "measures": [{"name", "divergence", "floor", "threshold", "alarm", "most": [[item, share, share in standard]], ...}]}},
         "diversity": {"files": n, "measures": [{"name", "value", "threshold", "low_is_alarm", "alarm", "says"}], "largest": [[repository, share]]}}

    ``bias`` has ``synthetic``, and ``high_quality`` beside it: what selection alone does, which raises no alarm. Raises SnowError where
    an artefact is damaged.
    """
    found: dict[str, Any] = {"format": FORMAT, "alarms": []}
    if phases := _overfitting(folders):
        found["overfitting"] = {"rise_threshold": RISE_THRESHOLD, "gap_threshold": GAP_THRESHOLD, "phases": phases}
    if "corpus" in folders:
        standard, spread = _standard(folders["corpus"])
        tiers = {"synthetic": folders.get("synthesize"), "high_quality": folders.get("annotate")}
        found["bias"] = {tier: _bias(survey(folder / tier), standard) for tier, folder in tiers.items() if folder is not None}
        files = _in_turn(standard.files)
        found["diversity"] = {"files": len(files), "measures": diversity.measures(files, spread), "largest": spread.largest}
    found["alarms"] = _alarms(found)
    return found


def _overfitting(folders: Mapping[str, Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    before = None
    for name, folder in folders.items():
        arrow, _, phase = name.partition(" ")
        if arrow == "train" and (gap := phase_gap(_rows(folder / "validation.jsonl"), before)):
            found[phase] = before = gap
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    except orjson.JSONDecodeError as error:
        raise SnowError(f"{path} is damaged ({error}): delete {path.parent} and run again") from error


def _bias(other: Survey, standard: Survey) -> dict[str, Any]:
    files = sum(map(len, other.files.values()))
    if not files:
        return {"files": 0, "measures": []}
    within = distributions.compare_within(other.files, standard.files)
    return {"files": files, "measures": [distributions.compare_languages(other.languages, standard.languages), *within]}


def _standard(corpus: Path) -> tuple[Survey, diversity.Spread]:
    """The standard tier: a sample of its files; its languages and repositories as the corpus arrow counted them, where it did."""
    found = survey(corpus / "standard")
    path = corpus / "summary.json"
    try:
        counted = orjson.loads(path.read_bytes()).get("standard", {}) if path.exists() else {}
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise SnowError(f"{path} is damaged ({error}); delete {corpus} and run again") from error
    if languages := counted.get("languages"):
        found.languages = Counter({language: size["bytes"] for language, size in languages.items()})
    if "effective_repositories" not in counted:
        return found, diversity.Spread.of(found.repositories)
    largest = [(name, round(size / max(counted["bytes"], 1), 6)) for name, size in counted["largest_repositories"]]
    return found, diversity.Spread(counted["repositories"], counted["effective_repositories"], largest)


def _in_turn(samples: Sample) -> list[Document]:
    """Files of all languages in turn, as many as are looked at."""
    rows = chain.from_iterable(zip_longest(*samples.values()))
    return [document for document in rows if document is not None][:_MOST_FILES]


def _alarms(found: Mapping[str, Any]) -> list[str]:
    said = []
    for phase, gap in found.get("overfitting", {}).get("phases", {}).items():
        if gap["rise"] > RISE_THRESHOLD:
            said.append(
                f"over-fitting: at the end of {phase} the loss on held-out code is {gap['rise']:.3f} nats above its lowest since the phase before "
                f"(more than {RISE_THRESHOLD:g})"
            )
        if gap["widened"] > GAP_THRESHOLD:
            said.append(
                f"over-fitting: in {phase} the loss on high-quality files fell {gap['widened']:.3f} nats more than that on held-out code "
                f"(more than {GAP_THRESHOLD:g})"
            )
    for row in found.get("bias", {}).get("synthetic", {}).get("measures", []):
        if row["alarm"]:
            said.append(
                f"synthetic bias: {row['name']} of the synthetic tier is {row['divergence']:.2f} bits from the standard tier's, "
                f"{row['floor']:.2f} of them for its size (more than {row['threshold']:g} beyond that)"
            )
    for row in found.get("diversity", {}).get("measures", []):
        if row["alarm"]:
            said.append(
                f"little diversity: {row['name']} of the standard tier is {row['value']:.3g}, {row['says']} "
                f"({'less' if row['low_is_alarm'] else 'more'} than {row['threshold']:g})"
            )
    return said
