from __future__ import annotations

import json
from typing import Any

import yaml

from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.model.settings import ModelSettings
from megatron_snow.report.defaults import default_tree
from megatron_snow.report.yaml_view import RecipeLine, recipe_lines
from megatron_snow.training.settings import TrainSettings

_TREE: dict[str, Any] = {
    "name": "small",
    "odd": {
        "colon: here": "a: b",
        "null word": "null",
        "number word": "12",
        "empty": "",
        "none": None,
        "yes": True,
        "float": 0.5,
        "nothing": {},
        "no items": [],
    },
    "sources": [{"kind": "stdlib", "only": ["json", "csv"], "nested": {"x": 1}}, {"kind": "folder"}],
    "long": [f"language number {index}" for index in range(20)],
    "stop": ["\nclass", "\ndef"],
}


def _text(lines: list[RecipeLine]) -> str:
    return "\n".join(line.text + line.hint for line in lines)


def test_the_lines_are_yaml_of_the_same_recipe() -> None:
    assert yaml.safe_load(_text(list(recipe_lines(_TREE, {})))) == _TREE


def test_a_dumped_recipe_reads_back() -> None:
    tree = {
        "train": TrainSettings().model_dump(mode="json"),
        "model": ModelSettings().model_dump(mode="json"),
        "evaluate": EvaluateSettings().model_dump(mode="json"),
    }
    assert yaml.safe_load(_text(list(recipe_lines(tree, default_tree(tree))))) == json.loads(json.dumps(tree))


def test_defaults_are_not_marked_and_changes_are() -> None:
    tree = {"model": ModelSettings(layers=4).model_dump(mode="json"), "train": TrainSettings(precision="fp32").model_dump(mode="json")}
    marked = [line for line in recipe_lines(tree, default_tree(tree)) if line.changed]
    assert [(line.text.strip(), line.hint.strip()) for line in marked] == [("layers: 4", "# default 24"), ("precision: fp32", "# default bf16")]
    phase = {"train": {"phases": {"general": {"tokens": 10_000}}}}
    assert [line.hint for line in recipe_lines(phase, default_tree(phase)) if line.changed] == ["  # default 500B"]


def test_a_change_deep_in_a_phase_is_marked_there() -> None:
    tree = {"train": TrainSettings().model_dump(mode="json")}
    tree["train"]["phases"]["general"]["batch"] = 8
    marked = [line for line in recipe_lines(tree, default_tree(tree)) if line.changed]
    assert [line.text for line in marked] == ["      batch: 8"]


def test_large_numbers_are_spelt() -> None:
    assert [line.text + line.hint for line in recipe_lines({"tokens": 500_000_000_000}, {})] == ["tokens: 500000000000  # 500B"]


def test_what_the_default_lacks_was_added_but_a_field_that_must_be_given_was_not() -> None:
    tree = {"train": TrainSettings().model_dump(mode="json"), "other": {"must": 1}}
    tree["train"]["phases"]["continued"]["blend"] = {"high_quality": 1.0, "standard": 0.2}
    tree["train"]["phases"]["fourth"] = {"tokens": 5}
    marked = [line.text.strip() for line in recipe_lines(tree, default_tree(tree) | {"other": {}}) if line.changed]
    assert marked == ["standard: 0.2", "fourth:", "tokens: 5"]


def test_settings_where_the_default_is_none_are_marked() -> None:
    lines = list(recipe_lines({"synthesize": {"local": {"model": "fixture:x"}}}, {"synthesize": {"local": None}}))
    assert [line.changed for line in lines] == [False, True, True]
