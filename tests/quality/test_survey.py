from collections import Counter
from fnmatch import fnmatchcase

import pytest

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.heuristics import documented_functions, looks_cared_for
from megatron_snow.quality.settings import FunctionPositives, HeuristicPositives
from megatron_snow.quality.survey import take_survey

HEURISTIC = {"kind": "heuristic", "count": 8}
FUNCTIONS = {"kind": "functions", "count": 8, "docstring": 40}


def test_the_survey_counts_every_file_and_byte(corpus, documents, settings):
    survey = take_survey(settings(), 0, corpus / "standard")
    assert survey.files == dict(sorted(Counter(d["language"] for d in documents).items()))
    assert survey.bytes["Python"] == sum(len(d["text"].encode()) for d in documents if d["language"] == "Python")
    assert all(d["id"] in survey.sample for d in documents) and survey.sample.count == len(documents)


def test_the_survey_does_not_depend_on_shards_or_their_order(corpus, documents, settings, tmp_path):
    write_documents(tmp_path, documents[::-1])
    chosen = settings(positives=[HEURISTIC, FUNCTIONS], negatives=20, max_documents=30)
    assert take_survey(chosen, 5, tmp_path) == take_survey(chosen, 5, corpus / "standard")
    assert take_survey(chosen, 6, tmp_path) != take_survey(chosen, 5, tmp_path)


def test_every_positive_fits_its_source_and_no_file_is_drawn_twice(corpus, documents, settings):
    by_id = {d["id"]: d for d in documents}
    globs = {"kind": "repositories", "globs": ["*/json/*", "numpy1/*"], "count": 50}
    survey = take_survey(settings(positives=[HEURISTIC, FUNCTIONS, globs], negatives=500), 0, corpus / "standard")
    cared_for, functions, named = survey.positives
    assert len(cared_for) == 8 and all(looks_cared_for(by_id[name], HeuristicPositives(**HEURISTIC)) for name in cared_for)
    assert 0 < len(functions) <= 8 and all(documented_functions(by_id[name]["text"], FunctionPositives(**FUNCTIONS)) for name in functions)
    matching = {name for name, d in by_id.items() if fnmatchcase(d["repository"], "*/json") or d["repository"] == "numpy1"}
    assert named == matching - cared_for - functions
    assert survey.negatives == by_id.keys() - cared_for - functions - named  # asked for more than there are


def test_the_sample_keeps_the_languages_in_proportion(corpus, documents, settings):
    languages = {d["id"]: d["language"] for d in documents}
    survey = take_survey(settings(max_documents=40), 0, corpus / "standard")
    drawn = [name for name in languages if name in survey.sample]
    assert len(drawn) == survey.sample.count == 40
    expected = 40 * sum(value == "C" for value in languages.values()) / len(languages)
    assert abs(Counter(languages[name] for name in drawn)["C"] - expected) <= 1


def test_a_fraction_is_a_fraction_and_grows_with_it(corpus, documents, settings):
    samples = [take_survey(settings(score_fraction=f), 0, corpus / "standard").sample for f in (0.3, 0.6)]
    small, large = ({d["id"] for d in documents if d["id"] in sample} for sample in samples)
    assert small < large and [len(small), len(large)] == [sample.count for sample in samples]
    assert abs(len(large) / len(documents) - 0.6) < 0.15  # standard error 0.04


def test_a_cap_falls_on_the_fraction(corpus, documents, settings):
    fraction = take_survey(settings(score_fraction=0.5), 0, corpus / "standard").sample
    capped = take_survey(settings(score_fraction=0.5, max_documents=20), 0, corpus / "standard").sample
    names = [d["id"] for d in documents if d["id"] in capped]
    assert len(names) == 20 and all(name in fraction for name in names)


def test_a_fraction_into_which_nothing_falls_is_refused(corpus, settings):
    with pytest.raises(SnowError, match=r"annotate\.score_fraction is 1e-12.*raise it"):
        take_survey(settings(score_fraction=1e-12), 0, corpus / "standard")


def test_no_source_of_positives_is_refused(corpus, settings):
    with pytest.raises(SnowError, match=r"annotate\.positives is empty"):
        take_survey(settings(positives=[]), 0, corpus / "standard")


def test_a_source_without_a_match_is_refused(corpus, settings):
    with pytest.raises(SnowError, match=r"annotate\.positives\[0\] \(repositories\) found no positive file"):
        take_survey(settings(positives=[{"kind": "repositories", "globs": ["nobody/*"], "count": 5}]), 0, corpus / "standard")


def test_a_corpus_of_positives_only_is_refused(corpus, settings):
    with pytest.raises(SnowError, match="none is left as a negative"):
        take_survey(settings(positives=[{"kind": "repositories", "globs": ["*"], "count": 10_000}]), 0, corpus / "standard")


def test_an_empty_tier_is_refused(settings, tmp_path):
    write_documents(tmp_path / "empty", [])
    with pytest.raises(SnowError, match="holds no document"):
        take_survey(settings(), 0, tmp_path / "empty")
    with pytest.raises(SnowError, match="no documents"):
        take_survey(settings(), 0, tmp_path / "missing")
