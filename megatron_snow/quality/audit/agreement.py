"""Do two annotators rank the same files alike?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.audit.intervals import estimate, spearman
from megatron_snow.quality.draw import draw_key
from megatron_snow.quality.scored import read_scores

_MOST = 3000  # files compared (ours: intervals of a few hundredths; Kendall's costs n log n a resample)
_FEWEST = 20


def scores_file(path: Path) -> Path:
    """scores.parquet, of an annotate artefact or named itself."""
    return path / "scores.parquet" if path.is_dir() else path


def compare(ours: pa.Table, other: Path, resamples: int, seed: int) -> dict[str, Any]:
    """Spearman's and Kendall's correlation over the files both scored (drawn by hash where there are many), and the overlap
    (Jaccard) of what they selected, each with an interval.

    ``ours``: id, repository, score, selected. Raises SnowError where the other's file is none, or too few files are common.
    """
    from scipy.stats import kendalltau

    table = read_scores(scores_file(other), ("id", "score", "selected"), "--against")
    both = ours.join(table.rename_columns(["id", "other", "also"]), "id", join_type="inner")
    if both.num_rows < _FEWEST:
        raise SnowError(f"--against {other}: only {both.num_rows} files were scored by both; ranks need {_FEWEST} at least: compare runs over one corpus")
    names = both["id"].to_pylist()
    keys = np.array([draw_key(seed, "agreement", name) for name in names], dtype=np.uint64)
    rows = np.argsort(keys)[:_MOST]
    mine, theirs = (both[name].to_numpy()[rows] for name in ("score", "other"))
    groups = both["repository"].take(pa.array(rows)).to_pylist()
    selected, also = (both[name].to_numpy(zero_copy_only=False)[rows] for name in ("selected", "also"))

    def kendall(some: np.ndarray) -> float:
        return float(kendalltau(mine[some], theirs[some]).statistic)

    def overlap(some: np.ndarray) -> float | None:
        union = (selected[some] | also[some]).sum()
        return float((selected[some] & also[some]).sum() / union) if union else None

    return {
        "other": str(other),
        "files": len(rows),
        "spearman": estimate(spearman(mine, theirs), groups, resamples, seed),
        "kendall": estimate(kendall, groups, min(resamples, 200), seed),
        "selected_overlap": estimate(overlap, groups, resamples, seed),
    }
