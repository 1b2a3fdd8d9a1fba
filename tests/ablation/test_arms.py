"""Study files: what arms become, and every mistake answered by name."""

import copy
from pathlib import Path

import pytest

from megatron_snow.ablation.arms import fill_in, open_study, tokens_seen
from megatron_snow.artifacts.errors import SnowError
from tests.ablation.small import STUDY, write


def _changed(*path_and_value):
    *path, value = path_and_value
    tree = copy.deepcopy(STUDY)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def test_arms_times_seeds_at_equal_tokens(tmp_path):
    opened = open_study(write(tmp_path))
    assert [unit.name for unit in opened.units] == ["alpha/seed-1", "alpha/seed-2", "beta/seed-1", "beta/seed-2"]
    assert {tokens_seen(unit.recipe) for unit in opened.units} == {8192}
    alpha, _, beta, _ = (unit.recipe for unit in opened.units)
    assert (list(alpha.train.phases), list(beta.train.phases)) == (["general"], ["general", "continued"])
    assert (beta.train.phases["general"].tokens, beta.train.phases["continued"].learning_rate.peak) == (4096, 2e-3)
    assert (alpha.seed, alpha.train.seed) == (7, 1)  # the tiers are the same for all seeds


def test_a_seed_may_change_the_whole_road(tmp_path):
    units = open_study(write(tmp_path, vary="road")).units
    assert [(unit.recipe.seed, unit.recipe.train.seed) for unit in units[:2]] == [(1, None), (2, None)]


def test_overrides_go_over_every_arm(tmp_path):
    opened = open_study(write(tmp_path), overrides=["evaluate.problem_limit=2", "model.layers=2"])
    assert {(unit.recipe.evaluate.problem_limit, unit.recipe.model.layers) for unit in opened.units} == {(2, 2)}


def test_some_arms_and_seeds(tmp_path):
    opened = open_study(write(tmp_path))
    assert [unit.name for unit in opened.chosen(["beta"], [2])] == ["beta/seed-2"]
    with pytest.raises(SnowError, match=r"has no arm 'gamma'; it has: alpha, beta"):
        opened.chosen(["gamma"], [])
    with pytest.raises(SnowError, match=r"has no seed 9; it has: 1, 2"):
        opened.chosen([], [9])


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        (_changed("arms", "beta", "set", "train.phases.general.tokens", "60 % of $tokens"), r"arm beta of study.yaml trains on 9,216 tokens .* says 8,192"),
        (_changed("arms", "beta", "set", "train.phases.general.tokens", "60 % of $token"), r"arm beta .* no value 'token'; it has: tokens, peak"),
        (_changed("arms", "beta", "phases", ["general", "enhancd"]), r"arm beta .* no phase 'enhancd'; it has: general, continued, enhanced"),
        (_changed("arms", "beta", "phases", []), "arms.beta.phases is empty"),
        (
            _changed("arms", "alpha", "set", "model.hiden", 3),
            r"arm alpha of study.yaml at scale cpu: .*model.hiden: unknown key 'hiden'; did you mean 'hidden'",
        ),
        (_changed("arms", "alpha", "sets", {}), "arms.alpha.sets: unknown key 'sets'; did you mean 'set'"),
        (_changed("baseline", "gamma"), "baseline: no arm that is run is called 'gamma'"),
        (_changed("compare", [["beta", "beta"]]), "compare: beta with itself"),
        (_changed("seeds", [1, 1]), "seeds: 1 is given twice"),
        (_changed("seeds", []), "seeds"),
        (_changed("scales", {}), "scales"),
        (_changed("base", "nowhere.yaml"), "cannot read the recipe"),
        (_changed("scales", "cpu", "values", {"tokens": "many"}), "'many' is not a number of tokens"),
        (_changed("arms", {"a/b": {}}), "a/b"),
    ],
)
def test_a_broken_study_says_what_is_wrong(tmp_path, tree, complaint):
    with pytest.raises(SnowError, match=f"(?s){complaint}"):
        open_study(write(tmp_path, **tree))


@pytest.mark.parametrize("text", ["[1, 2]", "name: a\nname: b", "\t{"])
def test_a_file_that_is_no_study(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(SnowError, match=r"study\.yaml is not"):
        open_study(path)


def test_an_unknown_scale(tmp_path):
    with pytest.raises(SnowError, match="has no scale 'tpu'; it has: cpu"):
        open_study(write(tmp_path), "tpu")


def test_what_is_planned_only_is_not_run_and_may_differ_in_tokens(tmp_path):
    arms = {**STUDY["arms"], "large": {"plan_only": True, "set": {"model.layers": 8}}}
    opened = open_study(write(tmp_path, arms=arms))
    assert list(opened.planned) == ["large"]
    assert {unit.arm for unit in opened.units} == {"alpha", "beta"}
    assert opened.study.pairs == (("beta", "alpha"),)


def test_values_are_filled_in_at_any_depth():
    values = {"tokens": 1000, "peak": 2e-3, "size": "2K"}
    assert fill_in({"a": ["$peak", {"b": "25 % of $size"}], "c": "$HOME/x", "d": "12.5 % of $tokens"}, values) == {
        "a": [2e-3, {"b": 500}], "c": "$HOME/x", "d": 125,
    }  # fmt: skip


def test_tokens_may_differ_where_the_study_says_so(tmp_path):
    tree = _changed("arms", "beta", "set", "train.phases.general.tokens", "60 % of $tokens")
    assert len(open_study(write(tmp_path, **tree, equal_tokens=False)).units) == 4


def test_the_base_is_found_from_the_studys_folder(tmp_path):
    (tmp_path / "base.yaml").write_text(Path(STUDY["base"]).read_text())
    assert len(open_study(write(tmp_path, base="base.yaml")).units) == 4
