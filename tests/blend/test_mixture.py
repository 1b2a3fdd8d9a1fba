"""Blends that run out against a walk sample by sample, languages within tiers, and the settings that name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.index import BlendSplit
from megatron_snow.blend.mixture import Mixture
from megatron_snow.blend.settings import MixtureSettings
from megatron_snow.tokens.writer import IndexedWriter

limited = st.lists(st.tuples(st.floats(1e-9, 1), st.one_of(st.none(), st.integers(0, 30))), min_size=1, max_size=8)


def walk(weights: list[float], limits: list[int | None], seed: int, samples: int) -> list[tuple[int, int]]:
    """The definition: deal by the split of those who are left; who has no more leaves before it is asked again."""
    given_, found = [0] * len(weights), []
    members = [i for i, limit in enumerate(limits) if limit != 0]
    start = 0
    while members and len(found) < samples:
        member, _ = BlendSplit([weights[i] for i in members], seed)[len(found) - start]
        chosen = members[member]
        if limits[chosen] is not None and given_[chosen] == limits[chosen]:
            members, start = [i for i in members if limits[i] is None or given_[i] < limits[i]], len(found)
            continue
        found.append((chosen, given_[chosen]))
        given_[chosen] += 1
    return found


@settings(max_examples=150)
@given(limited, st.integers(0, 2**32), st.integers(0, 120))
def test_a_mixture_equals_its_definition(blend: list, seed: int, samples: int) -> None:
    weights, limits = [w for w, _ in blend], [limit for _, limit in blend]
    mixture, expected = Mixture(weights, limits, seed, samples), walk(weights, limits, seed, samples)
    assert len(mixture) == len(expected)
    assert [mixture[n] for n in range(len(mixture))] == expected
    for n in {0, len(expected) // 2, len(expected)}:
        assert mixture.counts(n).tolist() == np.bincount([d for d, _ in expected[:n]], minlength=len(weights)).tolist()
    for dataset, sample in mixture.leaves.items():
        assert all(d != dataset for d, _ in expected[sample:]) and mixture.counts(len(expected))[dataset] == limits[dataset]


def test_a_mixture_far_out() -> None:
    """2^40 samples, one dataset that leaves in the middle: found by counting, not by walking."""
    mixture = Mixture([0.5, 0.3, 0.2], [None, 2**36, None], 3, 2**40)
    assert mixture.leaves[1] == pytest.approx(2**36 / 0.3, abs=10)
    left = mixture.leaves[1]
    assert mixture.counts(2**40).sum() == 2**40 and mixture.counts(2**40)[1] == 2**36
    assert abs(mixture.counts(2**40)[0] - (left * 0.5 + (2**40 - left) * 5 / 7)) <= 3
    dataset, index = mixture[2**40 - 1]
    assert index == mixture.counts(2**40)[dataset] - 1 > 2**31
    for outside in (-1, 2**40):
        with pytest.raises(IndexError):
            mixture[outside]


LANGUAGES = ("Python", "Java", "C++", "Rust")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A tier of four languages, interleaved, 10,000 tokens each but Rust: 100; token = number of the document's language."""
    folder = tmp_path / "tokens"
    (folder / "standard").mkdir(parents=True)
    rng = np.random.default_rng(0)
    documents = [(language, 100) for language in (0, 1, 2) for _ in range(100)] + [(3, 100)]
    documents = [documents[i] for i in rng.permutation(len(documents))]
    for shard in range(3):
        part = documents[shard::3]
        with IndexedWriter(folder / "standard" / f"{shard:05d}", np.dtype("<u2")) as out:
            for language, length in part:
                out.add(np.full(length, language))
            out.finish()
        rows = [
            {
                "ids": [f"src/o/r/{shard}-{i}-{k}.x" for k in range(2)],
                "ends": [60, length - 1],
                "language": LANGUAGES[language],
                "repository": "o/r",
                "metadata": False,
            }
            for i, (language, length) in enumerate(part)
        ]
        text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / "standard" / f"{shard:05d}.documents.jsonl.zst").write_bytes(zstandard.compress(text))
    (folder / "other").mkdir()
    with IndexedWriter(folder / "other" / "00000", np.dtype("<u2")) as out:
        out.add(np.full(5000, 9))
        out.finish()
    return folder


def languages_of(data: PhaseDataset) -> np.ndarray:
    samples = [data[i] for i in range(len(data))]
    assert all(len(np.unique(sample)) == 1 for sample in samples)  # a sample is of one language
    return np.array([sample[0] for sample in samples])


@pytest.mark.parametrize("cached", [False, True])
def test_languages_keep_their_shares(tokens: Path, tmp_path: Path, cached: bool) -> None:
    asked = {"Python": 0.6, "C++": 0.3, "Rust": 0.1}
    cache = tmp_path / "cache" if cached else None
    data = PhaseDataset(tokens, {"standard": 0.8, "other": 0.2}, 32, 500, seed=1, mixture=MixtureSettings(languages={"standard": asked}), cache=cache)
    seen = languages_of(data)
    tier = seen[seen != 9]
    assert data.counts() == {"standard": 400, "other": 100} and len(tier) == 400
    for language, share in asked.items():
        taken = np.cumsum(tier == LANGUAGES.index(language))
        assert np.abs(taken - share * np.arange(1, 401)).max() <= 1.5
    assert data.language_counts("standard") == {"Python": 240, "C++": 120, "Rust": 40} and data.language_counts("other") == {}
    again = PhaseDataset(tokens, {"standard": 0.8, "other": 0.2}, 32, 500, seed=1, mixture=MixtureSettings(languages={"standard": asked}), cache=cache)
    assert np.array_equal(languages_of(again), seen) and all(data.origin(i) == again.origin(i) for i in range(500))


def test_a_language_reads_each_of_its_tokens_once_a_pass(tokens: Path) -> None:
    data = PhaseDataset(tokens, {"standard": 1}, 100, 200, seed=1, mixture=MixtureSettings(languages={"standard": {"Java": 1}}))
    covered = [(span.shard, span.document, token) for i in range(100) for span in data.origin(i) for token in range(span.first, span.first + span.tokens)]
    once = {(shard, document, token) for shard, document, token in covered}
    assert len(once) == 100 * 100  # 100 samples of 101 tokens: every token, the labels twice
    assert {languages[0] for i in range(200) for languages in [np.unique(data[i])]} == {1}


def test_the_others(tokens: Path) -> None:
    data = PhaseDataset(tokens, {"standard": 1}, 25, 400, seed=1, mixture=MixtureSettings(languages={"standard": {"Python": 0.5, "*": 0.5}}))
    counts = np.bincount(np.concatenate([data[i][:-1] for i in range(400)]), minlength=4)
    assert counts[0] == 200 * 25 and counts[1] > 2000 and counts[2] > 2000 and counts[3] < 500  # the others keep their own proportions


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"languages": {"standard": {"Cobol": 1}}}, "tier 'standard' has no Cobol; it has"),
        ({"languages": {"standard": dict.fromkeys((*LANGUAGES, "*"), 1)}}, "no other languages than those named"),
        ({"languages": {"synthetic": {"Python": 1}}}, "languages names the tier 'synthetic', the blend has standard, other"),
        ({"languages": {"other": {"Python": 1}}}, "documents.jsonl.zst"),
    ],
)
def test_languages_that_are_not_there(tokens: Path, mixture: dict, message: str) -> None:
    with pytest.raises(SnowError, match=message):
        PhaseDataset(tokens, {"standard": 1, "other": 1}, 8, 10, seed=0, mixture=MixtureSettings(**mixture))


def test_rows_that_do_not_fit(tokens: Path) -> None:
    path = tokens / "standard" / "00001.documents.jsonl.zst"
    text = zstandard.decompress(path.read_bytes())
    mixture = MixtureSettings(languages={"standard": {"Java": 1}})
    for wrong, message in (
        (zstandard.compress(text[: text.rindex(b"{")]), "99 rows, its shard 100 documents"),
        (b"no zstd", "damaged"),
        (zstandard.compress(b"x\n"), "not JSON"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(SnowError, match=message):
            PhaseDataset(tokens, {"standard": 1}, 8, 10, seed=0, mixture=mixture)


def test_who_runs_out_leaves(tokens: Path) -> None:
    """Rust has 100 tokens: 4 passes are 12 samples of 32. Python and Java go on in their proportion."""
    mixture = MixtureSettings(languages={"standard": {"Python": 0.4, "Java": 0.2, "Rust": 0.4}}, exhausted="leave")
    data = PhaseDataset(tokens, {"standard": 1}, 32, 300, seed=1, max_epochs={"standard": 4}, mixture=mixture)
    seen = languages_of(data)
    counts = data.language_counts("standard")
    assert counts == {"Python": int((seen == 0).sum()), "Java": int((seen == 1).sum()), "Rust": 12}
    last = int(np.flatnonzero(seen == 3)[-1])
    assert last == pytest.approx(12 / 0.4, abs=4)
    rest = seen[last + 1 :]
    assert np.abs(np.cumsum(rest == 0) - np.arange(1, len(rest) + 1) * 2 / 3).max() <= 2.5
    with pytest.raises(SnowError, match=r"Rust in tier 'standard' has 100 tokens.*exhausted: leave"):
        PhaseDataset(tokens, {"standard": 1}, 32, 300, seed=1, max_epochs={"standard": 4}, mixture=mixture.model_copy(update={"exhausted": "refuse"}))


def test_tiers_that_run_out(tokens: Path) -> None:
    mixture = MixtureSettings(exhausted="leave")
    data = PhaseDataset(tokens, {"standard": 0.5, "other": 0.5}, 50, 600, seed=1, max_epochs={"other": 2}, mixture=mixture)
    assert data.counts() == {"standard": 400, "other": 200} and data.epochs("other") == 2 and data.leaves() == {"other": pytest.approx(400, abs=2)}
    assert all(data[i][0] != 9 for i in range(402, 600))
    with pytest.raises(SnowError, match="run out after 802 of 900 samples"):
        PhaseDataset(tokens, {"standard": 0.5, "other": 0.5}, 50, 900, seed=1, max_epochs={"other": 2, "standard": 1}, mixture=mixture)


def test_files_of_a_sample(tokens: Path) -> None:
    """Every piece is some files' tokens; the ids name repository and path."""
    data = PhaseDataset(tokens, {"standard": 1}, 70, 100, seed=1)
    for i in range(100):
        for span, files in zip(data.origin(i), data.files(i), strict=True):
            assert sum(file.tokens for file in files) == span.tokens
            assert {file.repository for file in files} == {"o/r"} and all(file.id == f"src/o/r/{file.path}" for file in files)
            at = span.first
            for file in files:
                second = file.path.endswith("-1.x")
                assert (at >= 60) == second and file.first == at - 60 * second
                assert file.path == f"{int(span.shard)}-{span.document}-{int(second)}.x"
                at += file.tokens
    (tokens / "standard" / "00000.documents.jsonl.zst").unlink()
    with pytest.raises(SnowError, match="only the tokenize arrow writes it"):
        [PhaseDataset(tokens, {"standard": 1}, 70, 100, seed=1).files(i) for i in range(100)]


def test_settings() -> None:
    parsed = MixtureSettings.model_validate({"languages": {"standard": {"Python": "12.5B", "*": 0.5}}})
    assert parsed.languages["standard"] == {"Python": 12.5e9, "*": 0.5}
    for wrong in (
        {"languages": {"standard": {"Python": 0}}},
        {"languages": {"standard": {"Python": "much"}}},
        {"max_epochs": {"standard": 0}},
        {"exhausted": "stop"},
    ):
        with pytest.raises(ValidationError):
            MixtureSettings.model_validate(wrong)
