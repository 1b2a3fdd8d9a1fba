"""Each signature on data whose answer is known: divergences by hand and against scipy, diversity by construction, alarms that go off and that do not."""

import json
import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.signatures import measure
from megatron_snow.signatures.distributions import compare_languages, compare_within, jensen_shannon
from megatron_snow.signatures.diversity import Spread, effective, measures, repeated_runs, vendi
from megatron_snow.signatures.overfitting import phase_gap
from megatron_snow.signatures.sampling import survey


def _document(number, text, language="Python", repository="r"):
    name = f"s/{repository}/{language}/{number}"
    return {"id": name, "text": text, "language": language, "repository": repository, "path": f"{number}", "license": "MIT", "source": "s"}


def _code(random, words, lines=30):
    return "".join(f"import {random.choice(words)}\nvalue = {random.choice(words)}({random.choice(words)}, {random.choice(words)})\n" for _ in range(lines))


def test_jensen_shannon_by_hand_and_against_scipy():
    assert jensen_shannon({"a": 3}, {"a": 7}) == 0
    assert jensen_shannon({"a": 1}, {"b": 5}) == 1
    p, q = np.random.default_rng(0).random((2, 50))
    one, other = ({str(i): value for i, value in enumerate(values)} for values in (p, q))
    assert jensen_shannon(one, other) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    with pytest.raises(ValueError, match="nothing"):
        jensen_shannon({}, {"a": 1})


def test_another_mix_of_languages_is_told_and_the_papers_is_not_an_alarm():
    standard = {"Python": 10, "C": 45, "Java": 45}
    assert not compare_languages({"Python": 50, "C": 25, "Java": 25}, standard)["alarm"]
    found = compare_languages({"Python": 98, "C": 1, "Java": 1}, standard)
    assert found["alarm"] and found["most"][0] == ("Python", 0.98, 0.1)


def test_files_of_one_kind_are_within_the_floor_and_others_beyond_it():
    random = np.random.default_rng(1)
    words, strange = [f"name{i}" for i in range(30)], [f"other{i}" for i in range(6)]
    standard = {"Python": [_document(i, _code(random, words)) for i in range(120)]}
    alike = {"Python": [_document(i, _code(random, words)) for i in range(40)]}
    odd = {"Python": [_document(i, _code(random, strange, 3)) for i in range(40)]}
    assert not any(row["alarm"] for row in compare_within(alike, standard))
    rows = {row["name"]: row for row in compare_within(odd, standard)}
    assert all(row["alarm"] for row in rows.values())
    assert rows["imports"]["divergence"] == pytest.approx(1.0, abs=0.01)
    assert rows["imports"]["most"][0][0].startswith(("other", "name"))


def test_too_few_files_to_compare_say_nothing():
    rows = compare_within({"Python": [_document(0, "import a\n")]}, {"Python": [_document(i, "import a\n") for i in range(40)]})
    assert [(row["divergence"], row["alarm"], row["languages"]) for row in rows] == [(None, False, [])] * 4


def test_effective_numbers():
    assert effective([5, 5, 5, 5]) == pytest.approx(4)
    assert effective([1, 0]) == pytest.approx(1)
    assert effective([]) == 0
    assert effective([9, 1]) == pytest.approx(math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1))))


def test_vendi_counts_different_files():
    subjects = [" ".join(f"{chr(97 + i)}{chr(97 + j)}word{chr(97 + j)}" for j in range(8)) for i in range(10)]
    different = [_document(i, text) for i, text in enumerate(subjects)]
    assert vendi(different) == pytest.approx(10, rel=0.15)
    assert vendi([different[0]] * 10) == pytest.approx(1)
    assert vendi(different[:2] * 5) == pytest.approx(2, rel=0.15)
    assert vendi([]) == 0


def test_copies_one_repository_and_one_topic_are_alarms():
    random = np.random.default_rng(2)
    copies = [_document(i, _code(np.random.default_rng(0), ["alpha", "beta"]), repository="one") for i in range(30)]
    assert [row["alarm"] for row in measures(copies, Spread.of({"one": 100}))] == [True, True, True, True]
    names = ["".join(random.choice(list("abcdefghijklmnop"), 6)) for _ in range(3000)]
    varied = [_document(i, _code(random, names[i * 50 : i * 50 + 50]), repository=f"r{i}") for i in range(60)]
    assert [row["alarm"] for row in measures(varied, Spread.of({f"r{i}": 10 for i in range(60)}))] == [False, False, False, False]
    assert repeated_runs(copies) > 0.9 > 0.1 > repeated_runs(varied)


def _rows(high_quality, heldout):
    return [
        {"step": step, "tokens": 10 * step, "tier": tier, "loss": loss}
        for step, pair in enumerate(zip(high_quality, heldout, strict=True), 1)
        for tier, loss in zip(("high_quality", "heldout"), pair, strict=True)
    ]


def test_the_gap_to_held_out_code():
    general = phase_gap(_rows([3.0, 2.8], [3.2, 3.0]))
    assert (general["widened"], general["rise"], general["alarm"]) == (0, 0, False)
    continued = phase_gap(_rows([2.5, 2.0], [2.9, 3.0]), general)
    assert [point["gap"] for point in continued["points"]] == pytest.approx([0.4, 1.0])
    assert (continued["widened"], continued["rise"]) == pytest.approx((0.8, 0.1))
    assert continued["alarm"]
    assert phase_gap([{"step": 1, "tokens": 1, "tier": "heldout", "loss": 2.0}]) is None
    single = [row | {"language": "C", "loss": 9.0} for row in _rows([3.0, 2.8], [3.2, 3.0])]
    assert phase_gap([*_rows([3.0, 2.8], [3.2, 3.0]), *single]) == general


def test_a_survey_is_a_sample_of_every_language_that_does_not_depend_on_row_order(tmp_path):
    documents = [_document(i, "x" * 10, language) for language in ("C", "Python") for i in range(50)]
    write_documents(tmp_path / "a", documents)
    write_documents(tmp_path / "b", reversed(documents), shard_bytes=1000)
    one = survey(tmp_path / "a", 5)
    assert {language: len(files) for language, files in one.files.items()} == {"C": 5, "Python": 5}
    assert one.languages == {"C": 500, "Python": 500}
    assert survey(tmp_path / "b", 5).languages.keys() <= {"C", "Python"}
    write_documents(tmp_path / "c", reversed(documents))
    assert survey(tmp_path / "c", 5) == one


def _sorted_tier(folder, languages=20, shards=40):
    """A tier as the corpus arrow writes it, in more shards than a look at four would tell: rows by language, then repository."""
    random = np.random.default_rng(6)
    words = [f"name{i}" for i in range(40)]
    rows = [_document(i, _code(random, words, 3), f"L{i * languages // 800:02}", f"r{i // 4}") for i in range(800)]
    write_documents(folder, rows, shard_bytes=sum(len(row["text"]) for row in rows) // shards)
    return rows


def test_a_tier_sorted_by_language_is_seen_in_all_its_parts(tmp_path):
    """The same files in another order, as a synthetic tier holds them, are no bias; a survey of few shards sees a fifth of the languages."""
    rows = _sorted_tier(tmp_path / "corpus/standard")
    assert len(list((tmp_path / "corpus/standard").iterdir())) >= 40
    assert len(survey(tmp_path / "corpus/standard").languages) == 20
    write_documents(tmp_path / "synthesize/synthetic", [rows[i] for i in np.random.default_rng(0).permutation(800)])
    found = measure({"corpus": tmp_path / "corpus", "synthesize": tmp_path / "synthesize"})
    assert found["bias"]["synthetic"]["measures"][0]["divergence"] < 0.01
    assert not any("language" in alarm or "repositor" in alarm for alarm in found["alarms"])
    assert {row["name"]: row["value"] for row in found["diversity"]["measures"]}["effective repositories"] > 150  # of 200; four shards hold 20


def test_a_survey_reads_no_more_than_it_is_told(tmp_path):
    rows = _sorted_tier(tmp_path)
    found = survey(tmp_path, most_bytes=sum(len(row["text"]) for row in rows) // 4)
    assert len(found.languages) == 20 and sum(found.languages.values()) < sum(len(row["text"]) for row in rows) / 2


def test_what_the_corpus_arrow_counted_goes_before_what_was_seen(tmp_path):
    _sorted_tier(tmp_path / "corpus/standard")
    counted = {
        "bytes": 1000, "repositories": 3, "effective_repositories": 1.5, "largest_repositories": [["big/one", 900], ["a/b", 60], ["c/d", 40]],
        "languages": {"L00": {"files": 1, "bytes": 990}, "Rare": {"files": 1, "bytes": 10}},
    }  # fmt: skip
    (tmp_path / "corpus/summary.json").write_text(json.dumps({"standard": counted}))
    found = measure({"corpus": tmp_path / "corpus"})
    assert found["diversity"]["largest"] == [("big/one", 0.9), ("a/b", 0.06), ("c/d", 0.04)]
    said = "\n".join(found["alarms"])
    assert "largest repository of the standard tier is 0.9" in said and "effective repositories of the standard tier is 1.5, of 3" in said
    (tmp_path / "corpus/summary.json").write_text("{")
    with pytest.raises(SnowError, match=r"summary\.json is damaged"):
        measure({"corpus": tmp_path / "corpus"})


def test_a_road_is_measured_and_its_alarms_name_the_numbers(tmp_path):
    random = np.random.default_rng(3)
    words = [f"name{i}" for i in range(40)]
    standard = [_document(i, _code(random, words), repository=f"r{i}") for i in range(60)]
    write_documents(tmp_path / "corpus" / "standard", standard)
    write_documents(tmp_path / "annotate" / "high_quality", standard[:30])
    write_documents(tmp_path / "synthesize" / "synthetic", [_document(i, _code(random, ["foo", "bar"], 2)) for i in range(20)])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _rows([3.0, 2.0], [3.0, 3.1])))
    folders = {"corpus": tmp_path / "corpus", "annotate": tmp_path / "annotate", "synthesize": tmp_path / "synthesize", "train continued": tmp_path / "train"}
    found = measure(folders)
    assert json.loads(json.dumps(found)) and measure(folders) == found
    said = "\n".join(found["alarms"])
    assert "over-fitting: at the end of continued the loss on held-out code is 0.100 nats above" in said
    assert "synthetic bias: imports" in said and "high_quality" not in said
    assert set(measure({"train continued": tmp_path / "train"})) == {"format", "alarms", "overfitting"}


def test_an_empty_tier_and_a_damaged_file(tmp_path):
    write_documents(tmp_path / "corpus" / "standard", [_document(0, "a = 1\n")])
    write_documents(tmp_path / "synthesize" / "synthetic", [])
    found = measure({"corpus": tmp_path / "corpus", "synthesize": tmp_path / "synthesize"})
    assert found["bias"]["synthetic"] == {"files": 0, "measures": []}
    (tmp_path / "validation.jsonl").write_text("{")
    with pytest.raises(SnowError, match=r"validation\.jsonl is damaged"):
        measure({"train general": tmp_path})
