"""Bad recipes and bad corpora at the command line: exit code 2, no traceback, what is wrong, the value, what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.in_process import Terminal, terminal  # noqa: F401 - a fixture

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the top level must be 'key: value' lines, found NoneType"),
        (b"- corpus\n- model\n", "found list"),
        (b"name: [1\n", "is not YAML: while parsing a flow sequence"),
        (b"name: a\nname: b\n", "key 'name' is given twice"),
        (b"\xff\xfe\x00\x01", "invalid start byte; the shipped ones are in examples/"),
        (b"name: tiny\n\tseed: 1\n", "cannot start any token"),
        (b"!!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        (LAUGHS.encode(), "unfolds to more than 100,000 values: its anchors (&) repeat"),
        (b"a: &a [*a]\n", "an anchor (&) contains itself"),
        (b"{" * 5000, "is not YAML"),
        (b"name: x\n", "corpus: missing; add it"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, terminal: Terminal, content: bytes, complaint: str) -> None:  # noqa: F811
    (tmp_path / "recipe.yaml").write_bytes(content)
    said = terminal.refused("plan", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
    assert complaint in said and str(tmp_path / "recipe.yaml") in said


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("modle.hidden=64", "modle: unknown key 'modle'; did you mean 'model'?"),
        ("train.phases.general.tokns=1M", "unknown key 'tokns'; did you mean 'tokens'?"),
        ("model.hidden=wide", "model.hidden"),
        ("train.phases.general.tokens=500 billion", "'500 billion' is not a number of tokens; write it like 500B"),
        ("corpus.max_file_bytes=2 apples", "'2 apples' is not a size in bytes; write it like 8GiB"),
        ("corpus.heldout_fraction=0.9", "corpus.heldout_fraction: Input should be less than 0.5 (it is 0.9)"),
        ("train.phases.general.blend={gold: 1}", "no tier is called 'gold'; there are: standard, high_quality, synthetic"),
        ("train.phases.general.blend={}", "blend names no tier; write it like {standard: 1}"),
        ("train.phases={../up: {blend: {standard: 1}, tokens: 1M, batch: 1, sequence: 8, learning_rate: {warmup: 1 steps}}}", "names a folder"),
        ("tokenizer=base", "stands for the model of train.base, which the recipe does not give"),
        ("model.heads=3", "64"),
        ("name=../elsewhere", "name"),
        ("seed=.nan", "seed"),
        ("layout.tensor=0", "layout.tensor"),
        ("synthesize.local={model: 7}", "synthesize.local.model"),
        ("corpus.sources=[]", "corpus.sources"),
        ("corpus.sources=[{kind: tape}]", "tape"),
        ("budget={cleaning: 5 s}", "no arrow is called 'cleaning'; there are: corpus, tokenizer"),
        ("train.phases.general.learning_rate.warmup=100000 steps", "warmup is 100000 steps, the phase has 10: shorten it"),
        ("evaluate.nothing", "write it as key.path=value"),
    ],
)
def test_a_recipe_with_one_thing_wrong(tmp_path: Path, terminal: Terminal, override: str, complaint: str) -> None:  # noqa: F811
    assert complaint in terminal.refused("plan", TINY, "--out", tmp_path / "out", "--set", override)


def row(name: str, content: str = "", **more: object) -> dict[str, object]:
    text = content or "".join(f"def {name}_{i}(value):\n    return value + {name}_{i + 1}(value)\n\n\n" for i in range(12))
    return {"content": text, "path": f"{name}.py", "repository_name": f"owner/{name}", "license": "MIT", **more}


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def corpus_recipe(tmp_path: Path, **corpus: object) -> Path:
    tree = yaml.safe_load(TINY.read_text())
    tree["corpus"] |= {"sources": [{"kind": "folder", "name": "rows", "path": str(tmp_path / "rows")}], "workers": 1, **corpus}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "recipe.yaml"


def nothing_at_all(folder: Path) -> None:
    folder.rmdir()


def a_loop_of_links(folder: Path) -> None:
    (folder / "up").symlink_to(folder)
    (folder / "round.jsonl").symlink_to(folder / "round.jsonl")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (nothing_at_all, "rows does not exist; mend 'path'"),
        (lambda folder: (folder / "README").write_text("no rows"), "holds no .jsonl"),
        (a_loop_of_links, "holds no .jsonl"),
        (lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 not really"), "is not a readable parquet file"),
        (lambda folder: (folder / "a.jsonl.gz").write_bytes(b"\x1f\x8b" + b"\0" * 40), "cannot be read"),
        (lambda folder: (folder / "a.jsonl").write_bytes(lines({"code": "x", "path": "a.py", "repository_name": "o/r"})), "has no column for the text"),
        (lambda folder: (folder / "a.jsonl").write_bytes(lines({"content": "x", "path": "a.py"})), "has no column for the repository"),
        (lambda folder: (folder / "a.jsonl").write_bytes(lines(*(row(f"n{i}", "a\0b") for i in range(5)))), "all 5 documents were dropped"),
        (lambda folder: (folder / "a.jsonl").write_bytes(lines(*(row(f"n{i}", "   ") for i in range(5)))), "all 5 documents were dropped"),
        (lambda folder: (folder / "a.jsonl").write_bytes(b"not json at all\n" * 9), "has no column for"),
        (lambda folder: (folder / "a.jsonl").write_bytes(b"\0" * 4096), "has no column for"),
    ],
)
def test_a_corpus_that_cannot_be_used(tmp_path: Path, terminal: Terminal, spoil: Any, complaint: str) -> None:  # noqa: F811
    (tmp_path / "rows").mkdir()
    spoil(tmp_path / "rows")
    assert complaint in terminal.refused("corpus", corpus_recipe(tmp_path), "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "1-corpus").exists()


def test_settings_of_a_corpus_that_cannot_be_met(tmp_path: Path, terminal: Terminal) -> None:  # noqa: F811
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_bytes(lines(row("a"), row("b")))
    recipe = corpus_recipe(tmp_path)
    for override, complaint in (
        ("corpus.languages=[Pyhton]", "Pyhton"),
        ("corpus.take_down=/no/such/list", "the take-down list /no/such/list cannot be read"),
        ("corpus.languages=[COBOL]", "documents were dropped"),
    ):
        assert complaint in terminal.refused("corpus", recipe, "--out", tmp_path / "out", "--set", override)


def test_what_is_bad_in_a_corpus_costs_itself_and_is_counted(tmp_path: Path, terminal: Terminal) -> None:  # noqa: F811
    """Good rows among all that real dumps hold: the arrow ends well, and every bad row is on record with its reason."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "good.jsonl").write_bytes(lines(*(row(f"g{i}") for i in range(24))))
    bad = lines(row("nul", "a\0b"), row("long", "x = '" + "y" * 300_000 + "'"), [1, 2], "text", row("typed", path=7))
    (folder / "bad.jsonl").write_bytes(lines(row("first")) + bad + b'{"content": "\xff\xfe", "path": "u.py", "repository_name": "o/u"}\n' + b"{broken\n")
    whole = gzip.compress(lines(*(row(f"z{i}") for i in range(400))))
    (folder / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(lines(row("fore")) + b'{"content": "' + b" " * 30_000_000))
    a_loop_of_links(folder)
    code, said = terminal("corpus", corpus_recipe(tmp_path, max_file_bytes="100KB"), "--out", tmp_path / "out")
    assert code == 0 and "Traceback" not in said, said
    summary = json.loads((tmp_path / "out" / "1-corpus" / "summary.json").read_bytes())
    drops = {reason: sum(languages.values()) for reason, languages in summary["drops"].items()}
    assert drops["holds NUL bytes"] == 1 and drops["malformed row"] >= 4 and drops["damaged file"] == 1 and drops["too large"] == 2
    assert summary["kept"] == summary["in"] - sum(drops.values()) >= 24 + 2
