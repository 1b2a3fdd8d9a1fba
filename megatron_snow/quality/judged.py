"""Files that people labelled high, as a source of positives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.quality.audit.human import read_labels
from megatron_snow.quality.settings import JudgedPositives


def judged_high(source: JudgedPositives, index: int, standard: Path) -> dict[str, tuple[str, str] | None]:
    """Name of each file labelled high -> None for a document of the standard tier, whose id the name is; else (text, language), the name then being
    ``positives[<source index>]:<path in the CSV>``. Files of the held-out tier are left out, and that is said.

    Raises SnowError where the CSV is wrong, or a file that it names cannot be found.
    """
    held_out = standard.with_name("heldout")
    tiers = [standard, *([held_out] if any(held_out.glob("*.jsonl.zst")) else [])]
    try:
        judged = read_labels(Path(source.path), tiers)
    except SnowError as error:
        raise SnowError(f"annotate.positives[{index}]: {error}") from error
    high = judged.high if source.least is None else judged.labels >= source.least
    found: dict[str, tuple[str, str] | None] = {}
    left_out = 0
    for row in np.flatnonzero(high):
        place = judged.places[row]
        if place is None:
            found[f"positives[{index}]:{judged.names[row]}"] = (judged.texts[row], judged.languages[row])
        elif place[0] == standard:
            found[place[1]] = None
        else:
            left_out += 1
    if left_out:
        say(f"  annotate.positives[{index}]: {left_out} files labelled high are of the held-out tier and teach nothing")
    return found
