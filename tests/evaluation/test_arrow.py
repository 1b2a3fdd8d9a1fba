from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.settings import BenchmarkSettings
from megatron_snow.evaluation import EvaluateSettings, evaluate
from megatron_snow.evaluation.language_model import load
from megatron_snow.evaluation.off_target import annotator, off_target
from tests.evaluation.conftest import document

SETTINGS = EvaluateSettings.model_validate(
    {"dtype": "fp32", "heldout_bytes": "3KiB", "tier_bytes": "4KiB", "document_bytes": "1KiB", "max_new_tokens": 12, "problem_limit": 6, "prompt_tokens": 5}
    | {"batch_size": 6}
)


def test_results(model: Path, corpus: Path, tmp_path: Path) -> None:
    counts = evaluate(SETTINGS, 1, model, corpus, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    bits = results["bits_per_byte"]
    assert bits["heldout"].keys() == {"all", "Python", "Shell"} and bits["humaneval_solutions"] > 0
    sizes = results["measured"]["heldout_bytes"]
    assert 0.9 * 3072 < sizes["Python"] <= 3072 and results["measured"]["heldout_documents"]["Shell"] == 2
    pooled = (bits["heldout"]["Python"] * sizes["Python"] + bits["heldout"]["Shell"] * sizes["Shell"]) / sum(sizes.values())
    assert bits["heldout"]["all"] == pytest.approx(pooled)
    assert results["humaneval"]["problems"] == 6 == sum(results["humaneval"]["reasons"].values())
    assert results["humaneval"]["pass_at_1"] == results["humaneval"]["passed"] / 6 == counts["pass_at_1"]
    assert [row["prompt"] for row in results["completions"]] == list(SETTINGS.prompts) and all(row["completion"] for row in results["completions"])
    rows = [json.loads(line) for line in (tmp_path / "humaneval.jsonl").read_text().splitlines()]
    assert [row["task_id"] for row in rows] == [f"HumanEval/{n}" for n in range(6)]
    texts = [json.loads(line) for line in (tmp_path / "bits.jsonl").read_text().splitlines()]
    assert sum(row["bytes"] for row in texts if row["language"] == "Python" and row["set"] == "heldout") == sizes["Python"]
    solutions = [row for row in texts if row["set"] == "HumanEval"]
    assert [row["id"] for row in solutions] == [f"HumanEval/{n}" for n in range(6)]
    assert sum(row["bits"] for row in solutions) / sum(row["bytes"] for row in solutions) == pytest.approx(bits["humaneval_solutions"])
    assert rows[0].keys() == {"task_id", "sample", "completion", "finish", "passed", "base_passed", "reason"}
    entry = results["benchmarks"]["humaneval"]
    assert entry["pass_at"]["1"]["score"] == counts["pass_at_1"] and entry["bits_per_byte"] == bits["humaneval_solutions"] == bits["solutions"]["humaneval"]


def test_off_target_losses_and_the_annotators_measure(model: Path, corpus: Path, tmp_path: Path) -> None:
    """Each number against Hugging Face's own loss in float64, a text at a time, over texts that the tiers' files give by hand."""
    short = {"Python": ["def add(a, b):\n    return a + b\n", "é = 'naïve'\n"], "Shell": ["set -eu\n"]}
    rows = [document(f"{language}/{place}", text, language) for language, texts in short.items() for place, text in enumerate(texts)]
    write_documents(tmp_path / "high_quality", rows)
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "summary.json").write_text('{"validation": {"auc": 0.83, "standard_error": 0.05, "positives": 9}}')
    tiers = {"standard": corpus / "standard", "high_quality": tmp_path / "high_quality"}
    evaluate(SETTINGS, 1, model, corpus, tmp_path, tiers=tiers, annotated=tmp_path / "annotated")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["annotator"] == {"roc_auc": 0.83, "standard_error": 0.05}
    found = results["off_target"]
    assert found.keys() == tiers.keys() and found["standard"].keys() == {"all", "Python"} and found["high_quality"].keys() == {"all", "Python", "Shell"}
    lm = load(model, "fp32")
    twin = lm.model.double()
    bits: dict[str, list[float]] = {}
    for language, texts in short.items():
        for text in texts:
            ids = torch.tensor([[*lm.prefix, *lm.encode([text])[0]]])
            labels = ids.clone()
            labels[:, : len(lm.prefix)] = -100
            with torch.no_grad():
                loss = twin(input_ids=ids, labels=labels).loss.item()
            bits.setdefault(language, []).append(loss * (ids.shape[1] - len(lm.prefix)) / math.log(2))
    size = {language: sum(len(text.encode()) for text in texts) for language, texts in short.items()}
    expected = {language: sum(bits[language]) / size[language] for language in short} | {"all": sum(map(sum, bits.values())) / sum(size.values())}
    assert found["high_quality"] == pytest.approx(expected, rel=1e-5)
    scored = [json.loads(line) for line in (tmp_path / "off_target.jsonl").read_text().splitlines()]
    assert {row["set"] for row in scored} == tiers.keys() and 0.9 * 4096 < sum(row["bytes"] for row in scored if row["set"] == "standard") <= 4096
    none = SETTINGS.model_copy(update={"tier_bytes": 0})
    assert off_target(none, 1, lm, tiers, tmp_path) == {}
    (tmp_path / "annotated" / "summary.json").write_text("{}")
    with pytest.raises(SnowError, match=r"cannot read the annotator's ROC-AUC.*snow annotate"):
        annotator(tmp_path / "annotated")


def test_several_benchmarks_and_a_group(model: Path, corpus: Path, tmp_path: Path) -> None:
    row = {"task_id": "EvoEval/0", "prompt": "def f(x):", "canonical_solution": "    return x", "entry_point": "f", "inputs": ["1", "(2,)"]}
    for name in ("difficult", "creative", "subtle", "combine", "tool_use"):
        (tmp_path / f"EvoEval_{name}.jsonl").write_text(json.dumps(row) + "\n")
    chosen = (BenchmarkSettings(name="evoeval", source=str(tmp_path)),)
    counts = evaluate(SETTINGS.model_copy(update={"benchmarks": chosen}), 1, model, corpus, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["benchmarks"]["evoeval"]["problems"] == 5 and len(results["benchmarks"]["evoeval"]["members"]) == 5
    assert "humaneval" not in results and counts["pass_at_1_of"].keys() == results["benchmarks"].keys()
    assert (tmp_path / "evoeval.subtle.jsonl").is_file()


def test_problems_that_want_libraries_are_left_out_aloud(model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"complete_prompt": "def task_func():\n", "instruct_prompt": "Write it.", "canonical_solution": "    return 1\n", "entry_point": "task_func",
           "test": "import unittest\nclass TestCases(unittest.TestCase):\n    def test(self): self.assertEqual(task_func(), 1)\n"}  # fmt: skip
    rows = [row | {"task_id": "B/0", "libs": "['json']"}, row | {"task_id": "B/1", "libs": "['pandas']"}]
    file = tmp_path / "b.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))

    def chosen(name: str) -> EvaluateSettings:
        return SETTINGS.model_copy(update={"benchmarks": (BenchmarkSettings(name=name, source=str(file)),)})

    evaluate(chosen("bigcodebench/complete"), 1, model, corpus, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["benchmarks"]["bigcodebench/complete"]["problems"] == 1
    assert "1 of 2 problems want libraries" in "".join(capsys.readouterr())
    with pytest.raises(SnowError, match="is for models that follow instructions"):
        evaluate(chosen("bigcodebench/instruct"), 1, model, corpus, tmp_path)
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(SnowError, match=r"1 of 1 problems want libraries .*pandas.*tools/bigcodebench\.sh"):
        evaluate(chosen("bigcodebench/complete"), 1, model, corpus, tmp_path)


def test_without_samples_nothing_runs_and_every_problem_is_measured(model: Path, corpus: Path, tmp_path: Path) -> None:
    """Also those whose libraries are not there: their solutions cost what they cost."""
    row = {"task_id": "B/0", "complete_prompt": "def task_func():\n", "instruct_prompt": "", "canonical_solution": "    return 1\n", "entry_point": "task_func",
           "test": "", "libs": "['pandas']"}  # fmt: skip
    (tmp_path / "b.jsonl").write_text(json.dumps(row) + "\n")
    chosen = (BenchmarkSettings(name="humaneval"), BenchmarkSettings(name="bigcodebench/complete", source=str(tmp_path / "b.jsonl")))
    evaluate(SETTINGS, 1, model, corpus, tmp_path)
    solved = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "bits").mkdir()
    counts = evaluate(SETTINGS.model_copy(update={"samples": 0, "benchmarks": chosen}), 1, model, corpus, tmp_path / "bits")
    results = json.loads((tmp_path / "bits" / "results.json").read_text())
    assert results["benchmarks"] == {} == counts["pass_at_1_of"] and "humaneval" not in results
    bits = results["bits_per_byte"]
    assert bits["solutions"].keys() == {"humaneval", "bigcodebench/complete"} and bits["humaneval_solutions"] == solved["bits_per_byte"]["humaneval_solutions"]
    assert bits["heldout"] == solved["bits_per_byte"]["heldout"] and results["completions"] == solved["completions"]
    assert sorted(path.name for path in (tmp_path / "bits").iterdir()) == ["bits.jsonl", "off_target.jsonl", "results.json"]


def test_the_same_again_gives_the_same_bytes(model: Path, corpus: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        evaluate(SETTINGS, 1, model, corpus, tmp_path / name)
    for file in ("results.json", "humaneval.jsonl", "bits.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_no_model_no_tokenizer_no_corpus(model: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"no model in .*holds no config.json"):
        evaluate(SETTINGS, 1, tmp_path / "absent", corpus, tmp_path)
    with pytest.raises(SnowError, match=r"holds no .*shard"):
        evaluate(SETTINGS, 1, model, tmp_path, tmp_path)
    write_documents(tmp_path / "heldout", [document("a", "")])
    with pytest.raises(SnowError, match="holds no text to measure on"):
        evaluate(SETTINGS, 1, model, tmp_path, tmp_path)
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SnowError, match="cannot load the model in"):
        evaluate(SETTINGS, 1, bare, corpus, tmp_path)
    with pytest.raises(SnowError, match="there is no benchmark file"):
        evaluate(
            SETTINGS.model_copy(update={"benchmarks": (BenchmarkSettings(name="humaneval", source=str(tmp_path / "none.jsonl")),)}), 1, model, corpus, tmp_path
        )


def test_damaged_models(model: Path, corpus: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(model, cut)
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(SnowError, match="cannot load the model in"):
        evaluate(SETTINGS, 1, cut, corpus, tmp_path)
    weights = load_file(model / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "layers.1.mlp" not in name}, cut / "model.safetensors", {"format": "pt"})
    with pytest.raises(SnowError, match=r"lacks 3 of its tensors \(model.layers.1.mlp.down_proj.weight"):
        evaluate(SETTINGS, 1, cut, corpus, tmp_path)
    (cut / "config.json").write_text("{")
    with pytest.raises(SnowError, match="cannot load the model in"):
        evaluate(SETTINGS, 1, cut, corpus, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 1.0},
        {"dtype": "fp16"},
        {"heldout_bytes": "0"},
        {"max_new_tokens": 0},
        {"unknown": 1},
        {"samples": 2},
        {"samples": -1},
        {"samples": 0, "endpoint": {"endpoints": ["http://localhost:1/v1"], "model": "m"}},
        {"benchmarks": ["humanevil"]},
        {"benchmarks": ["evoeval", "evoeval/subtle"]},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EvaluateSettings.model_validate(wrong)
