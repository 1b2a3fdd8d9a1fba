"""What the stages of a recipe depend on."""

from pathlib import Path

from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "recipe.yaml"


def _stages(*overrides, edit=None):
    return build_road(load_recipe(QUICKSTART, overrides, edit), Path("out")).stages


def test_a_seed_of_training_leaves_the_tiers_alone():
    plain, other = _stages(), _stages("train.seed=5")
    assert [name for name in plain if plain[name].settings != other[name].settings] == ["train general", "train continued", "train enhanced", "report"]


def test_only_tiers_that_are_trained_or_validated_on_have_to_be_made():
    def without_synthetic(tree):
        del tree["train"]["phases"]["enhanced"]

    assert _stages()["tokenize"].inputs == ("corpus", "tokenizer", "annotate", "synthesize")
    assert _stages(edit=without_synthetic)["tokenize"].inputs == ("corpus", "tokenizer", "annotate", "synthesize")  # validated on
    validated = "train.validation.tiers=[heldout, high_quality]"
    assert _stages(validated, edit=without_synthetic)["tokenize"].inputs == ("corpus", "tokenizer", "annotate")
    assert _stages(validated, "train.phases={general: {blend: {standard: 1}, tokens: 20B}}")["tokenize"].inputs == ("corpus", "tokenizer", "annotate")
    assert _stages("train.validation.tiers=[]", "train.phases={general: {blend: {standard: 1}, tokens: 20B}}")["tokenize"].inputs == ("corpus", "tokenizer")
