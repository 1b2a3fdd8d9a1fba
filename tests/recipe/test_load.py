"""Ten and more broken recipes: each answered with the field, the value and what is allowed."""

import textwrap
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.recipe.load import load_recipe

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("recipe.yaml"))
QUICKSTART = next(path for path in EXAMPLES if path.parent.name == "quickstart")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_shipped_recipe_loads(path):
    assert load_recipe(path).name == path.parent.name


def test_the_papers_numbers():
    recipe = load_recipe(next(path for path in EXAMPLES if path.parent.name == "snowcoder_1b3"))
    phases = recipe.train.phases
    assert [phase.tokens for phase in phases.values()] == [500 * 10**9, 50 * 10**9, 5 * 10**9]
    assert phases["general"].tokens_per_step == 4_194_304
    assert phases["general"].learning_rate.peak == 5.3e-4
    assert recipe.annotate.tokens == 12_500_000_000
    assert recipe.tokenizer.train.vocabulary == 64_000


def _write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("modle.hidden=1", r"modle: unknown key 'modle'; did you mean 'model'"),
        ("model.hiden=1", r"model.hiden: unknown key 'hiden'; did you mean 'hidden'"),
        ("model.hidden=wide", r"model.hidden: .*integer.*'wide'"),
        ("model.heads=3", r"hidden 256 is not a multiple of heads 3"),
        ("train.phases.general.tokens=many", r"train.phases.general.tokens: 'many' is not a number of tokens; write it like 500B"),
        ("train.phases.general.tokns=1M", r"unknown key 'tokns'; did you mean 'tokens'"),
        ("train.phases.general.blend={gold: 1}", r"no tier is called 'gold'; there are: standard"),
        ("train.phases.general.learning_rate.decay=sine", r"train.phases.general.learning_rate.decay: .*cosine.*'sine'"),
        ("train.phases.general.learning_rate.warmup=soon", r"write it like '2.5B' \(tokens\) or '600 steps'"),
        ("budget.corpus=soon", r"budget.corpus: 'soon' is not a time in seconds; write it like 90 s"),
        ("budget.corups=60 s", r"no arrow is called 'corups'"),
        ("corpus.sources.0.max_bytes=10 zebras", r"max_bytes: '10 zebras' is not a size in bytes; write it like 8GiB"),
        ("corpus.sources.0.kind=tape", r"corpus.sources.0: .*tape"),
        ("name=a b", r"name: .*pattern"),
        ("name=/tmp/elsewhere", r"name: .*pattern"),
        ("train.phases.a/b={blend: {standard: 1}, tokens: 1B, batch: 8, sequence: 512}", r"'a/b' names a folder"),
        ("train.validation.tiers=[high_qualty]", r"train.validation.tiers: no tier is called 'high_qualty'; there are: .*heldout"),
        ("tokenize.tiers={syntetic: {grouping: file}}", r"tokenize.tiers: no tier is called 'syntetic'"),
        ("corpus.heldout_fraction=0", r"corpus.heldout_fraction: .*greater than 0"),
        ("corpus.rules.max_lines=-1", r"corpus.rules.max_lines: .*greater than or equal to 0"),
        ("budget.corpus=-3", r"budget.corpus: .*greater than or equal to 0"),
        ("layout.tensor=0", r"layout.tensor: .*greater than or equal to 1"),
        ("nonsense", r"write it as key.path=value"),
        ("name.deeper=1", r"name is the value 'quickstart', it has no fields"),
        ("corpus.sources.9=1", r"corpus.sources is a list of 2"),
        ("model.hidden=[1", r"--set model.hidden=\[1 is not YAML"),
    ],
)
def test_a_broken_recipe_says_what_is_wrong(override, complaint):
    with pytest.raises(SnowError, match=complaint):
        load_recipe(QUICKSTART, [override])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1, 2]", "the top level must be 'key: value' lines, found list"),
        ("name: {", "is not YAML"),
        ("name: a\nname: b", "'name' is given twice"),
        ("name: a", "corpus: missing"),
        ("!!python/object/apply:os.system [echo]", "is not YAML"),
        ("", "found NoneType"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, complaint):
    with pytest.raises(SnowError, match=complaint):
        load_recipe(_write(tmp_path, text))


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(SnowError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SnowError, match="cannot read the recipe"):
        load_recipe(tmp_path / "binary.yaml")


def test_overrides_reach_every_depth():
    recipe = load_recipe(QUICKSTART, ["seed=7", "train.phases.general.tokens=1M", "corpus.sources.0.max_bytes=1MiB", "layout.tensor=2"])
    assert (recipe.seed, recipe.train.phases["general"].tokens, recipe.corpus.sources[0].max_bytes, recipe.layout.tensor) == (7, 10**6, 2**20, 2)


def test_an_override_changes_one_place_where_anchors_share_it(tmp_path):
    """A recipe's phases often share their learning rate through a YAML anchor."""
    tiny = Path(__file__).parents[1] / "road" / "tiny.yaml"
    phases = load_recipe(tiny, ["train.phases.general.learning_rate.peak=1e-3"]).train.phases
    assert [phases[name].learning_rate.peak for name in ("general", "continued", "enhanced")] == [1e-3, 2e-3, 2e-3]
