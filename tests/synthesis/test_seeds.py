"""Seeds: whole consecutive lines, one a document, the right mix at every length, the same for the same seed."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.synthesis.seeds import Seed, cut, deal, draw_seeds, shares_of
from tests.synthesis.conftest import document

LINES = st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60), max_size=40)


@given(lines=LINES, most=st.integers(1, 15), characters=st.integers(40, 400), seed=st.integers(0, 1000))
def test_a_seed_is_consecutive_whole_lines(lines, most, characters, seed):
    text = "\n".join(lines)
    found = cut(document(0, text=text), most, characters, random.Random(seed))
    if found is None:
        return
    own, all_lines = found.split("\n"), text.splitlines()
    assert 1 <= len(own) <= most and len(found) <= characters and len("".join(found.split())) >= 20
    assert any(all_lines[i : i + len(own)] == own for i in range(len(all_lines)))


def test_every_length_and_place_occurs():
    rows = "\n".join(f"line number {i} of the file" for i in range(20))
    found = [cut(document(0, text=rows), 15, 2000, random.Random(i)) for i in range(2000)]
    assert {len(text.split("\n")) for text in found} == set(range(1, 16))
    assert {text.split("\n")[0] for text in found} == {f"line number {i} of the file" for i in range(20)}


@pytest.mark.parametrize("text", ["", "\n\n\n", "}\n" * 50, "x" * 5000])
def test_documents_without_usable_lines_are_counted(text):
    draw = draw_seeds([document(0, text=text), document(1)], 1, 2000, 0.5, None, 0)
    assert len(draw.seeds) == 1 and draw.skipped == {"no usable lines": 1}


def test_languages_without_a_parser_give_no_seed():
    other = document(0)
    other["language"] = "Cobol"
    assert draw_seeds([other], 15, 2000, 0.5, None, 0).skipped == {"language without a parser": 1}


def corpus(counts: dict[str, int]):
    return [document(i, language, score=(i * 37 % 101) / 101) for language, count in counts.items() for i in range(count)]


@given(python=st.integers(0, 40), c=st.integers(0, 40), java=st.integers(0, 40), limit=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_the_first_n_of_all_and_one_a_document(python, c, java, limit, seed):
    rows = corpus({"Python": python, "C": c, "Java": java})
    everything = draw_seeds(rows, 15, 2000, 0.5, None, seed)
    random.Random(seed).shuffle(rows)
    some = draw_seeds(rows, 15, 2000, 0.5, limit, seed)
    assert some.seeds == everything.seeds[:limit]
    assert len({one.document_id for one in everything.seeds}) == len(everything.seeds) == python + c + java


def test_the_best_come_first_within_a_language():
    rows = corpus({"Python": 30, "C": 30})
    scores = {row["id"]: row["score"] for row in rows}
    seeds = draw_seeds(rows, 15, 2000, 0.5, 20, 0).seeds
    for language in ("Python", "C"):
        own = [scores[one.document_id] for one in seeds if one.language == language]
        assert own == sorted((s for i, s in scores.items() if language in i.split("/")[2].split("-")), reverse=True)[: len(own)]


def test_another_seed_gives_other_lines_of_the_same_documents():
    rows = [document(i, text="\n".join(f"value_{i}_{j} = compute({j})" for j in range(60))) for i in range(20)]
    first, again, other = (draw_seeds(rows, 15, 2000, 0.5, None, seed).seeds for seed in (1, 1, 2))
    assert first == again
    assert [one.document_id for one in first] == [one.document_id for one in other]
    assert sum(a.text == b.text for a, b in zip(first, other, strict=True)) < 5


@given(sizes=st.dictionaries(st.sampled_from(["Python", "C", "Java", "Go"]), st.integers(1, 200), min_size=1), share=st.floats(0, 1))
@settings(max_examples=60)
def test_every_prefix_has_the_mix_until_a_pool_is_empty(sizes, share):
    pools = {name: [Seed(f"{name}{i}", name, "x") for i in range(size)] for name, size in sizes.items()}
    shares = shares_of({name: float(size) for name, size in sizes.items()}, share)
    assert sum(shares.values()) == pytest.approx(1)
    dealt, counts, full = list(deal(pools, shares)), Counter(), True
    assert sorted(one.document_id for one in dealt) == sorted(one.document_id for pool in pools.values() for one in pool)
    for position, one in enumerate(dealt, start=1):
        counts[one.language] += 1
        if full:
            assert all(abs(counts[name] - position * shares[name]) < len(sizes) for name in sizes)
        full = full and all(counts[name] < sizes[name] for name in sizes)


def test_python_gets_its_share_and_the_others_keep_their_proportions():
    shares = shares_of({"Python": 10.0, "C": 30.0, "Go": 60.0}, 0.5)
    assert shares == pytest.approx({"Python": 0.5, "C": 0.5 / 3, "Go": 1 / 3})
    assert shares_of({"Python": 3.0}, 0.5) == {"Python": 1.0}
    assert shares_of({"C": 3.0, "Go": 1.0}, 0.5) == pytest.approx({"C": 0.75, "Go": 0.25})
