"""What a change redoes: a road of published stand-ins under the keys of the real stages, looked at with one thing changed.

A stand-in is a folder with one small file, published as the arrow's own run is; what is stale, reused or waiting follows from the
keys, which are the real ones. tests/road shows on runs that what is told here is what is done.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from megatron_snow.recipe.artefacts import training_states
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.road import build_road
from megatron_snow.recipe.stage import Road, Status
from megatron_snow.synthesis.answers import make_judge
from megatron_snow.synthesis.journal import Answer

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"
PHASES = ("general", "continued", "enhanced")
TRAIN = tuple(f"train {phase}" for phase in PHASES)
CONVERT = tuple(f"convert {phase}" for phase in PHASES)
EVALUATE = tuple(f"evaluate {phase}" for phase in PHASES)


def stand_in(road: Road) -> None:
    """Publish every stage of a road; bytes differ from stage to stage and do not from run to run."""
    for stage in road.stages.values():
        building = road.building(stage).open()
        (building.work / "content").write_text(stage.name)
        for part in stage.parts:
            (building.work / part).mkdir()
            (building.work / part / "content").write_text(part)
        building.publish()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe with sources, positives and a take-down list that a test can touch."""
    folder = tmp_path_factory.mktemp("redo")
    (folder / "rows").mkdir()
    row = {"content": "x = 1\n", "path": "a.py", "repository_name": "o/r"}
    (folder / "rows" / "0.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    (folder / "down.txt").write_text("o/gone\n")
    (folder / "good.jsonl").write_text('{"text": "x"}\n')
    tree = yaml.safe_load(TINY.read_text())
    tree["corpus"] |= {"sources": [{"kind": "folder", "name": "rows", "path": str(folder / "rows")}], "take_down": str(folder / "down.txt")}
    tree["annotate"]["positives"] = [{"kind": "jsonl", "path": str(folder / "good.jsonl"), "count": 5}]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))  # phases have an order
    return path


@pytest.fixture
def out(recipe: Path, tmp_path: Path) -> Path:
    stand_in(build_road(load_recipe(recipe), tmp_path / "out"))
    return tmp_path / "out"


def statuses(recipe: Path, out: Path, *overrides: str) -> dict[str, Status]:
    return build_road(load_recipe(recipe, overrides), out).statuses()


def stale(found: dict[str, Status]) -> dict[str, str]:
    return {name: status.why for name, status in found.items() if status.state == "stale"}


# What is changed, and the stages that are redone for it whatever comes out of others; the report stands on every stage.
CHANGES: list[tuple[str, tuple[str, ...]]] = [
    ("corpus.heldout_fraction=0.3", ("corpus",)),
    ("corpus.rules.max_line=900", ("corpus",)),
    ("corpus.near_duplicates.jaccard=0.8", ("corpus",)),
    ("corpus.languages=[Python]", ("corpus",)),
    ("corpus.max_file_bytes=1MB", ("corpus",)),
    ("corpus.decontamination.min_characters=40", ("corpus", "synthesize")),
    ("evaluate.benchmarks=[humaneval, mbpp+]", ("synthesize", *EVALUATE)),  # what is reported on must not be in what a model wrote
    ("evaluate.benchmarks=[{name: humaneval, source: 'fixture:HumanEval'}]", EVALUATE),  # the corpus seeks that already
    ("corpus.workers=7", ()),
    ("tokenizer.train.vocabulary=2048", ("tokenizer",)),
    ("tokenizer.train.sample=2MB", ("tokenizer",)),
    ("annotate.tokens=50K", ("annotate",)),
    ("annotate.section=128", ("annotate",)),
    ("annotate.head.epochs=3", ("annotate",)),
    ("annotate.negatives=41", ("annotate",)),
    ("synthesize.temperature=0.9", ("synthesize",)),
    ("synthesize.requests=13", ("synthesize",)),
    ("tokenize.document=1MiB", ("tokenize",)),
    ("tokenize.format.repository_metadata=0.9", ("tokenize",)),
    ("tokenize.workers=2", ()),
    ("tokenize.engine=reference", ()),
    ("model.hidden=128", TRAIN),
    ("train.precision=bf16", TRAIN),
    ("train.optimizer.beta2=0.99", TRAIN),
    ("train.phases.general.learning_rate.peak=1e-3", ("train general",)),
    ("train.phases.continued.tokens=6K", ("train continued",)),
    ("train.phases.enhanced.blend={high_quality: 1}", ("train enhanced",)),
    ("train.phases.enhanced.micro_batch=2", ()),
    ("train.phases.continued.validation_tiers=[heldout]", ("train continued",)),
    ("layout.tensor=2", ()),
    ("layout.data=2", ()),
    ("evaluate.max_new_tokens=9", EVALUATE),
    ("evaluate.heldout_bytes=9KiB", EVALUATE),
    ("evaluate.tier_bytes=9KiB", EVALUATE),
    ("budget={corpus: 5 s}", ()),
]


@pytest.mark.parametrize(("change", "redone"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_setting_redoes_what_depends_on_it(recipe: Path, out: Path, change: str, redone: tuple[str, ...]) -> None:
    road = build_road(load_recipe(recipe, [change]), out)
    found = road.statuses()
    # Whose key is another, whatever comes out of the stages before; the report shows the whole recipe.
    other = {name for name, stage in road.stages.items() if found[name].manifest.key != road.building(stage).key}
    assert other == {*redone, "report"}
    behind: set[str] = set()
    for name, stage in road.stages.items():
        if not behind.isdisjoint(stage.inputs):
            assert found[name].state == "waiting"
            behind.add(name)
        elif name in other:
            field = change.split("=")[0].split(".")
            assert found[name].state == "stale" and any(part in found[name].why for part in (field[-1], field[-2] if len(field) > 1 else field[0]))
            behind.add(name)
        else:
            assert found[name].state == "done"


def test_the_synthetic_tier_holds_no_problem_that_is_reported_on(tmp_path: Path) -> None:
    """The corpus's benchmarks and evaluation's: texts of both are found by what judges answers, each looked for once."""
    solution = "\ndef similar_elements(first, second):\n    return tuple(set(first) & set(second))\n"
    row = {"task_id": "Mbpp/2", "prompt": '"""\nFind the shared elements.\n"""\n', "entry_point": "similar_elements", "canonical_solution": solution,
           "base_input": [], "plus_input": [], "contract": "", "assertion": "", "atol": 0}  # fmt: skip
    (tmp_path / "MbppPlus.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    reported = f"evaluate.benchmarks=[humaneval, {{name: mbpp+, source: {tmp_path}}}]"
    recipe = load_recipe(TINY, [reported])
    sought = recipe.corpus.decontamination.covering(recipe.evaluate.benchmarks)
    judge = make_judge(sought, recipe.corpus.redaction, 0)
    answer = Answer(id="x", content=f"Problem: find what two given lists have in common.\n\n```python\n{solution}```", finish_reason="stop")
    verdict = judge.judge(answer, "Python")
    assert verdict.reason == "contaminated" and "Mbpp/2" in verdict.detail
    assert not make_judge(recipe.corpus.decontamination, recipe.corpus.redaction, 0).judge(answer, "Python").reason
    assert [one.name for one in sought.benchmarks] == ["mbpp+"] and sought.covering(recipe.evaluate.benchmarks) == sought
    assert build_road(recipe, tmp_path / "out").stages["synthesize"].settings["decontamination"] == sought.identity()


def test_the_table_has_every_arrow() -> None:
    assert {name.split()[0] for _, redone in CHANGES for name in redone} == {"corpus", "tokenizer", "annotate", "synthesize", "tokenize", "train", "evaluate"}


def test_the_seed_redoes_everything(recipe: Path, out: Path) -> None:
    assert stale(statuses(recipe, out, "seed=8")) == {"corpus": "changed: seed"}


def touched(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + orjson.dumps({"content": "y = 2\n", "path": "b.py", "repository_name": "o/s"}) + b"\n")


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        ("rows/0.jsonl", appended, {"corpus": "changed: input sources"}),
        ("rows/0.jsonl", touched, {"corpus": "changed: input sources"}),
        ("rows/1.jsonl", lambda path: path.write_text('{"content": "z", "path": "c", "repository_name": "o/t"}\n'), {"corpus": "changed: input sources"}),
        ("rows/README", lambda path: path.write_text("not a row\n"), {}),
        ("down.txt", lambda path: path.write_text("o/gone\no/also\n"), {"corpus": "changed: input take-down list"}),
        ("down.txt", lambda path: path.write_text("# a comment\n\no/gone # still\n"), {}),
        ("good.jsonl", lambda path: path.write_text('{"text": "yy"}\n'), {"annotate": "changed: input positives and encoder"}),
        ("good.jsonl", touched, {"annotate": "changed: input positives and encoder"}),
    ],
)
def test_files_outside_the_road(recipe: Path, out: Path, name: str, spoil: Any, expected: dict[str, str]) -> None:
    path = recipe.parent / name
    before = (path.read_bytes(), path.stat()) if path.exists() else None
    spoil(path)
    try:
        assert stale(statuses(recipe, out)) == expected
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before[0])
            os.utime(path, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert stale(statuses(recipe, out)) == {}


def test_a_phase_stands_on_the_tiers_it_reads_only(recipe: Path, tmp_path: Path) -> None:
    """Another annotator, other files in the high-quality tier: a first phase that is neither trained nor validated on it is not trained again."""
    on_standard = "train.phases.general.validation_tiers=[heldout, standard]"
    road = build_road(load_recipe(recipe, [on_standard]), tmp_path)
    stand_in(road)
    road = build_road(load_recipe(recipe, [on_standard, "annotate.negatives=41"]), tmp_path)
    for name, changed in (("annotate", "high_quality/content"), ("synthesize", "content"), ("tokenize", "high_quality/content")):
        made_again(road, name, changed)
    found = road.statuses()
    assert found["tokenize"].state == found["train general"].state == found["convert general"].state == "done"
    assert (found["train continued"].state, found["train continued"].why) == ("stale", "changed: input tokenize/high_quality")
    assert training_states(load_recipe(recipe, [on_standard]), road) == {
        "general": "trained", "continued": "trained on other tokens", "enhanced": "trained on other tokens",
    }  # fmt: skip


def made_again(road: Road, name: str, changed: str) -> None:
    """Publish a stand-in again whose file ``changed`` came out otherwise."""
    building = road.building(road.stages[name]).open()
    for part in ("content", *(f"{part}/content" for part in road.stages[name].parts)):
        (building.work / part).parent.mkdir(exist_ok=True)
        (building.work / part).write_text("other" if part == changed else name if part == "content" else part.partition("/")[0])
    building.publish()


@pytest.mark.parametrize(
    ("name", "change", "changed", "redone"),
    [
        # Summaries, scores and answers are no training text: what is read of them alone is looked at again.
        ("corpus", "corpus.decontamination.min_characters=40", "content", {"synthesize", *EVALUATE}),  # what is sought is synthesize's setting as well
        ("corpus", "corpus.rules.max_line=900", "content", set(EVALUATE)),
        ("corpus", "corpus.rules.max_line=900", "heldout/content", {"tokenize", *EVALUATE}),
        ("corpus", "corpus.rules.max_line=900", "standard/content", {"tokenizer", "annotate", "synthesize", "tokenize", *EVALUATE}),
        ("annotate", "annotate.section=128", "content", {"synthesize", *EVALUATE}),
        ("annotate", "annotate.section=128", "high_quality/content", {"synthesize", "tokenize", *EVALUATE}),
        ("synthesize", "synthesize.diversity=null", "content", set(EVALUATE)),
        ("synthesize", "synthesize.diversity=null", "synthetic/content", {"tokenize", *EVALUATE}),
    ],
)
def test_tiers_that_stay_the_same_redo_nothing(recipe: Path, out: Path, name: str, change: str, changed: str, redone: set[str]) -> None:
    """An arrow that is made again and changes one file: whose key is another then."""
    road = build_road(load_recipe(recipe, [change]), out)
    made_again(road, name, changed)
    found = {one for one, stage in road.stages.items() if road.status(one).manifest.key != road.building(stage).key}
    assert found == {*redone, "report"}


def test_an_edited_benchmark_redoes_what_must_not_hold_it(recipe: Path, tmp_path: Path) -> None:
    """With as many problems as before: neither the corpus's counts nor its tiers need come out otherwise."""
    row = {
        "task_id": "Mbpp/2",
        "prompt": "one",
        "entry_point": "f",
        "canonical_solution": "",
        "base_input": [],
        "plus_input": [],
        "contract": "",
        "assertion": "",
        "atol": 0,
    }
    (tmp_path / "MbppPlus.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    sought = f"corpus.decontamination.benchmarks=[{{name: mbpp+, source: {tmp_path}}}]"
    stand_in(build_road(load_recipe(recipe, [sought]), tmp_path / "out"))
    (tmp_path / "MbppPlus.jsonl").write_bytes(orjson.dumps(row | {"prompt": "another"}) + b"\n")
    road = build_road(load_recipe(recipe, [sought]), tmp_path / "out")
    assert stale(road.statuses()) == {"corpus": "changed: input benchmarks"}
    made_again(road, "corpus", "nothing")
    assert stale(build_road(load_recipe(recipe, [sought]), tmp_path / "out").statuses()) == {"synthesize": "changed: input benchmarks"}


def test_a_source_that_went_away_is_told_by_the_plan(recipe: Path, out: Path) -> None:
    rows = recipe.parent / "rows"
    rows.rename(recipe.parent / "away")
    try:
        found = statuses(recipe, out)["corpus"]
        assert found.state == "waiting" and f"{rows} does not exist" in found.why
    finally:
        (recipe.parent / "away").rename(rows)


def test_an_arrow_that_comes_to_the_same_bytes_redoes_nothing_else(recipe: Path, out: Path) -> None:
    """Touched sources: the corpus is made again, comes out as it was, and nothing stands in need of more."""
    touched(recipe.parent / "rows" / "0.jsonl")
    road = build_road(load_recipe(recipe), out)
    assert road.status("corpus").state == "stale" and road.status("tokenizer").state == "waiting"
    made_again(road, "corpus", "nothing")
    assert {status.state for status in statuses(recipe, out).values()} == {"done"}


@pytest.mark.parametrize("stage", ["corpus", "tokenizer", "annotate", "synthesize", "tokenize", *TRAIN, *CONVERT, *EVALUATE, "report"])
def test_a_newer_version_of_an_arrow(recipe: Path, out: Path, stage: str) -> None:
    from dataclasses import replace

    road = build_road(load_recipe(recipe), out)
    stages = [replace(one, version=one.version + 1) if one.name == stage else one for one in road.stages.values()]
    newer = Road(stages, out, road.seed)
    assert {name: status.why for name, status in newer.statuses().items() if status.state == "stale"} == {stage: "changed: the arrow's version"}


def test_a_changed_setting_leaves_what_cost_money(recipe: Path, out: Path) -> None:
    for temperature in ("0.8", "0.9"):
        road = build_road(load_recipe(recipe, [f"synthesize.temperature={temperature}"]), out)
        work = road.building(road.stages["synthesize"]).open().work
        assert not (work / "journal.jsonl").exists()
        (work / "journal.jsonl").write_text(temperature)
    assert (road.folder("synthesize").with_name("4-synthesize.kept") / "1-journal.jsonl").read_text() == "0.8"
