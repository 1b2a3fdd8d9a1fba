import pytest
from pydantic import ValidationError

from megatron_snow.quality.settings import AnnotateSettings, FunctionPositives, HeuristicPositives, JsonlPositives, RepositoryPositives


def test_defaults_are_the_papers_annotator():
    settings = AnnotateSettings()
    assert settings.encoder == "Snowflake/snowflake-arctic-embed-m" and settings.pooling == "auto" and settings.section == 512
    assert [source.count for source in settings.positives] == [220_000, 80_000] and settings.negatives == 300_000
    assert settings.tokens == 12_500_000_000 and settings.score_fraction == 1 and settings.max_documents is None


def test_each_kind_of_source_is_chosen_by_its_name():
    sources = [
        {"kind": "jsonl", "path": "a.jsonl", "count": 1}, {"kind": "repositories", "globs": ["a/*"], "count": 1},
        {"kind": "heuristic", "count": 1}, {"kind": "functions", "count": 1},
    ]  # fmt: skip
    found = AnnotateSettings.model_validate({"positives": sources}).positives
    assert [type(source) for source in found] == [JsonlPositives, RepositoryPositives, HeuristicPositives, FunctionPositives]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "max"},
        {"section": 100},
        {"score_fraction": 0},
        {"positives": [{"kind": "guess", "count": 1}]},
        {"positives": [{"kind": "repositories", "globs": [], "count": 1}]},
        {"positives": [{"kind": "heuristic", "count": 1, "lines": [9, 3]}]},
        {"positives": [{"kind": "heuristic", "count": 1, "comments": [0.5, 0.1]}]},
        {"positives": [{"kind": "functions", "count": 1, "statements": [9, 3]}]},
        {"head": {"validation": 0.9}},
        {"head": {"learnig_rate": 0.1}},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        AnnotateSettings.model_validate(wrong)


def test_floors_are_of_known_languages_and_between_0_and_1():
    assert AnnotateSettings(floors={"Python": 0.5, "C++": 0, "*": 1}).floors == {"Python": 0.5, "C++": 0, "*": 1}
    for floors, complaint in (
        ({"pyhton": 0.5}, "no language is called 'pyhton'; did you mean 'Python'"),
        ({"Python": 5}, "less than or equal to 1"),
        ({"*": -0.1}, "greater than or equal to 0"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            AnnotateSettings(floors=floors)
