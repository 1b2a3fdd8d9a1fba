"""Rank agreement of two annotators that differ, against the same numbers by hand: a comparison with itself is 1 however rows are joined."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau, spearmanr

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.audit.agreement import compare


def table(scores: dict[str, float], most: int) -> pa.Table:
    """A scores.parquet: the ``most`` files with the highest scores are selected; ids in the dictionary's order."""
    chosen = sorted(scores, key=scores.__getitem__)[-most:]
    columns = {"id": list(scores), "repository": [f"r{hash(name) % 7}" for name in scores], "score": list(scores.values())}
    return pa.table(columns | {"selected": [name in chosen for name in scores]})


def test_the_files_of_both_are_joined_by_name(tmp_path: Path) -> None:
    """The other's rows stand in another order, and each has files that the other lacks."""
    random = np.random.default_rng(4)
    ours = {f"f{i}": float(random.random()) for i in range(90)}
    theirs = {name: score + 0.4 * float(random.random()) for name, score in reversed(list(ours.items())[10:])}
    theirs |= {f"g{i}": float(random.random()) for i in range(30)}
    pq.write_table(table(theirs, 40), tmp_path / "scores.parquet")
    found = compare(table(ours, 30), tmp_path, 100, 1)
    both = [name for name in ours if name in theirs]
    mine, other = ([scores[name] for name in both] for scores in (ours, theirs))
    assert found["files"] == len(both) == 80
    assert found["spearman"]["value"] == pytest.approx(spearmanr(mine, other).statistic) and 0.5 < found["spearman"]["value"] < 0.99
    assert found["kendall"]["value"] == pytest.approx(kendalltau(mine, other).statistic)
    chosen = [{row["id"] for row in table(scores, most).to_pylist() if row["selected"]} & set(both) for scores, most in ((ours, 30), (theirs, 40))]
    assert found["selected_overlap"]["value"] == pytest.approx(len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1]))
    assert 0 < found["selected_overlap"]["value"] < 1 and found["spearman"]["interval"][0] < found["spearman"]["value"] < found["spearman"]["interval"][1]


def test_opposite_ranks_are_minus_one(tmp_path: Path) -> None:
    ours = {f"f{i}": i / 50 for i in range(50)}
    pq.write_table(table({name: -score for name, score in ours.items()}, 10), tmp_path / "other.parquet")
    found = compare(table(ours, 10), tmp_path / "other.parquet", 50, 1)
    assert found["spearman"]["value"] == pytest.approx(-1) and found["kendall"]["value"] == pytest.approx(-1) and found["selected_overlap"]["value"] == 0


def test_too_few_common_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(table({f"g{i}": i / 50 for i in range(50)}, 10), tmp_path / "scores.parquet")
    with pytest.raises(SnowError, match="only 0 files were scored by both"):
        compare(table({f"f{i}": i / 50 for i in range(50)}, 10), tmp_path, 50, 1)
