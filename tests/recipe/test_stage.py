"""The road's bookkeeping on a small road of three real stages that copy text."""

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.recipe.drive import drive
from megatron_snow.recipe.stage import Road, Stage


class Words:
    """A road corpus -> tokenizer -> train whose stages write text; counts its runs."""

    def __init__(self, out, corpus="a b", tokenizer=1, train=1, seed=0, source="v1", version=1):
        self.ran = []

        def write(name, text):
            def run(inputs, work):
                self.ran.append(name)
                (work / "f").write_text(text + "".join((folder / "f").read_text() for folder in inputs.values()))
                return {"words": 2}

            return run

        self.road = Road(
            [
                Stage("corpus", "corpus", "1-corpus", version, {"text": corpus}, write("corpus", corpus), external=lambda: {"sources": source}),
                Stage("tokenizer", "tokenizer", "2-tokenizer", 1, {"vocabulary": tokenizer}, write("tokenizer", str(tokenizer)), ("corpus",)),
                Stage("train", "train", "6-train/general", 1, {"steps": train}, write("train", str(train)), ("corpus", "tokenizer")),
            ],
            out,
            seed,
        )

    def run(self):
        for name in self.road.stages:
            if self.road.status(name).state != "done":
                self.road.make(name)
        return self.ran


def test_a_finished_road_is_skipped(tmp_path):
    assert Words(tmp_path).run() == ["corpus", "tokenizer", "train"]
    assert Words(tmp_path).run() == []


@pytest.mark.parametrize(
    ("change", "redone", "why"),
    [
        ({"train": 2}, ["train"], "setting steps"),
        ({"tokenizer": 2}, ["tokenizer", "train"], "setting vocabulary"),
        ({"corpus": "c d"}, ["corpus", "tokenizer", "train"], "setting text"),
        ({"seed": 5}, ["corpus", "tokenizer", "train"], "seed"),
        # Redone, but the bytes are the same: nothing that depends on them is.
        ({"source": "v2"}, ["corpus"], "input sources"),
        ({"version": 2}, ["corpus"], "the arrow's version"),
    ],
)
def test_a_change_redoes_exactly_what_depends_on_it(tmp_path, change, redone, why):
    Words(tmp_path).run()
    changed = Words(tmp_path, **change)
    assert changed.road.status(redone[0]).state == "stale"
    assert why in changed.road.status(redone[0]).why
    assert changed.run() == redone


def test_a_killed_stage_is_partial_and_goes_on(tmp_path):
    words = Words(tmp_path)
    words.road.make("corpus")
    stage = words.road.stages["tokenizer"]
    (words.road.building(stage).open().work / "half").write_text("x")
    assert words.road.status("tokenizer").state == "partial"
    assert words.road.status("train").state == "waiting"
    words.road.make("tokenizer")
    assert (words.road.folder("tokenizer") / "half").read_text() == "x"


def test_a_stage_without_its_inputs_names_the_command_to_run(tmp_path):
    with pytest.raises(SnowError, match="run `snow corpus` first"):
        Words(tmp_path).road.make("tokenizer")
    Words(tmp_path).run()
    with pytest.raises(SnowError, match="corpus, which is stale"):
        Words(tmp_path, corpus="other").road.make("train")


def test_a_failing_stage_publishes_nothing(tmp_path):
    def fail(inputs, work):
        (work / "half").write_text("x")
        raise SnowError("no")

    road = Road([Stage("corpus", "corpus", "1-corpus", 1, {}, fail)], tmp_path, 0)
    with pytest.raises(SnowError):
        road.make("corpus")
    assert not road.folder("corpus").exists()
    assert road.status("corpus").state == "partial"


def test_an_artefact_whose_files_are_gone_is_not_done(tmp_path):
    """The plan says so; nothing is made of it, and it is not made again unasked. What was made of it before is as done as it was."""
    Words(tmp_path).run()
    gone = tmp_path / "1-corpus" / "f"
    text = gone.read_text()
    for spoil, complaint in ((gone.unlink, "is missing, its manifest names it"), (lambda: gone.write_text("a"), "has 1 bytes, its manifest says 3")):
        spoil()
        words = Words(tmp_path)
        found = words.road.statuses()
        assert found["corpus"].state == "damaged" and f"{gone} {complaint}" in found["corpus"].why and "run `snow corpus` again" in found["corpus"].why
        assert (found["tokenizer"].state, found["train"].state) == ("done", "done")
        for asked in (words, Words(tmp_path, tokenizer=2)):
            with pytest.raises(SnowError, match=complaint):
                drive(asked.road, list(asked.road.stages))
            assert asked.ran == []
    changed = Words(tmp_path, tokenizer=2).road.statuses()
    assert (changed["tokenizer"].state, changed["tokenizer"].why) == ("waiting", "after corpus") and changed["train"].state == "waiting"
    gone.write_text(text)
    assert Words(tmp_path).run() == []
    assert Words(tmp_path, corpus="c d").run() == ["corpus", "tokenizer", "train"]
    gone.unlink()  # what would be made anew is made anew
    assert Words(tmp_path).run() == ["corpus", "tokenizer", "train"]
