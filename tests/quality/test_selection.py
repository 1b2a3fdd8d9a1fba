import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.quality.selection import language_tokens, nearest_prefix, select


def table(rows):
    return pa.table({name: [row[name] for row in rows] for name in ("id", "language", "score", "tokens", "bytes")})


def files(seed=0, count=300):
    random = np.random.default_rng(seed)
    return [
        {"id": f"f{i:04d}", "language": str(random.choice(["C", "Go", "Python"], p=[0.3, 0.1, 0.6])), "score": float(random.integers(0, 20)) / 20,
         "tokens": int(random.integers(10, 1000)), "bytes": 100}
        for i in range(count)
    ]  # fmt: skip


def reference(rows, mix, budget):
    """Straightforward: sort a language's files, walk down, stop where the total is nearest to the target."""
    chosen = set()
    for language, share in mix.items():
        ranked = sorted((row for row in rows if row["language"] == language), key=lambda row: (-row["score"], row["id"]))
        best, total = 0, 0
        for taken, row in enumerate(ranked, start=1):
            before = abs(sum(r["tokens"] for r in ranked[:best]) - share * budget)
            total += row["tokens"]
            if abs(total - share * budget) < before:
                best = taken
        chosen |= {row["id"] for row in ranked[:best]}
    return chosen


@pytest.mark.parametrize("budget", [0, 500, 20_000, 70_000, 10**9])
def test_selection_equals_the_straightforward_one_under_any_order(budget):
    rows = files()
    mix = {"C": 0.25, "Go": 0.05, "Python": 0.7}
    expected = reference(rows, mix, budget)
    for order in (np.arange(300), np.random.default_rng(1).permutation(300)):
        mask, _ = select(table([rows[i] for i in order]), {language: 1e6 * share for language, share in mix.items()}, budget)
        assert {rows[i]["id"] for i, taken in zip(order, mask, strict=True) if taken} == expected


def test_ties_go_by_id():
    rows = [{"id": name, "language": "C", "score": 0.5, "tokens": 10, "bytes": 1} for name in ("b", "d", "a", "c")]
    mask, report = select(table(rows), {"C": 40.0}, 20)
    assert mask.tolist() == [True, False, True, False]
    assert report["C"]["threshold"] == 0.5


def test_the_language_mix_of_the_corpus_is_kept_within_a_file():
    rows = files(count=3000)
    scored = table(rows)
    corpus = language_tokens(scored, {"C": 300 * 900, "Go": 300 * 300, "Python": 300 * 1800})
    mask, report = select(scored, corpus, 100_000)
    total = sum(row["tokens"] for row, taken in zip(rows, mask, strict=True) if taken)
    for language, one in report.items():
        assert abs(one["selected_tokens"] - one["mix"] * 100_000) <= 500  # half the largest file
        assert one["mix"] == pytest.approx(corpus[language] / sum(corpus.values()))
        scores = [row["score"] for row, taken in zip(rows, mask, strict=True) if taken and row["language"] == language]
        assert min(scores) == one["threshold"] and one["selected"] == len(scores)
        assert one["threshold"] >= max(row["score"] for row, taken in zip(rows, mask, strict=True) if not taken and row["language"] == language)
    assert abs(total - 100_000) < 1500


def test_a_language_that_has_too_little_is_taken_whole_and_not_made_up_for():
    rows = [{"id": f"c{i}", "language": "C", "score": i / 10, "tokens": 10, "bytes": 10} for i in range(10)]
    rows += [{"id": f"go{i}", "language": "Go", "score": i / 10, "tokens": 10, "bytes": 10} for i in range(2)]
    mask, report = select(table(rows), {"C": 500.0, "Go": 500.0}, 100)
    assert report["Go"]["selected_tokens"] == 20 and report["C"]["selected_tokens"] == 50 and mask.sum() == 7


def test_corpus_tokens_are_exact_where_all_is_scored_and_scaled_where_not():
    rows = [{"id": "a", "language": "C", "score": 0.1, "tokens": 30, "bytes": 100}, {"id": "b", "language": "C", "score": 0.1, "tokens": 10, "bytes": 100}]
    assert language_tokens(table(rows), {"C": 200, "Go": 50}) == {"C": 40.0}
    assert language_tokens(table(rows), {"C": 1000}) == {"C": 200.0}


@given(st.lists(st.integers(0, 50), max_size=12), st.floats(0, 400))
def test_nearest_prefix_is_nearest(tokens, target):
    taken = nearest_prefix(np.array(tokens, dtype=np.int64), target)
    distances = [abs(sum(tokens[:n]) - target) for n in range(len(tokens) + 1)]
    assert distances[taken] == min(distances) and taken == distances.index(min(distances))


def test_nothing_scored_selects_nothing():
    mask, report = select(
        table([]).cast(pa.schema([("id", pa.string()), ("language", pa.string()), ("score", pa.float64()), ("tokens", pa.int64()), ("bytes", pa.int64())])),
        {},
        10,
    )
    assert len(mask) == 0 and report == {}


def test_floors_cut_a_language_whatever_the_budget_and_ties_at_the_threshold_are_counted():
    rows = [{"id": f"{language}{i}", "language": language, "score": score, "tokens": 10, "bytes": 10}
            for language in ("C", "Go", "Rust") for i, score in enumerate((0.9, 0.5, 0.5, 0.5, 0.1))]  # fmt: skip
    corpus = dict.fromkeys(("C", "Go", "Rust"), 50.0)
    mask, report = select(table(rows), corpus, 90, {"Go": 0.6, "*": 0.5})
    chosen = {row["id"] for row, taken in zip(rows, mask, strict=True) if taken}
    assert chosen == {"C0", "C1", "C2", "Go0", "Rust0", "Rust1", "Rust2"}
    assert report["Go"]["floor"] == 0.6 and report["C"]["floor"] == 0.5 and report["Go"]["selected_tokens"] == 10
    assert report["C"]["at_threshold"] == 3 and report["C"]["at_threshold_selected"] == 2
    for order in (np.random.default_rng(seed).permutation(len(rows)) for seed in range(5)):  # near-threshold ties do not follow the order
        again, _ = select(table([rows[i] for i in order]), corpus, 90, {"Go": 0.6, "*": 0.5})
        assert {rows[i]["id"] for i, taken in zip(order, again, strict=True) if taken} == chosen
