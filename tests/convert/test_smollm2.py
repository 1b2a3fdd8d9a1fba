"""A real pretrained model (SmolLM2-135M-Instruct: 30 layers, 9 heads, 3 key/value heads, tied) goes both ways and answers the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.checkpoint.store import latest
from megatron_snow.convert import to_checkpoint, to_hugging_face
from megatron_snow.parallel.settings import Layout
from tests.convert.test_bring_in import engine_logits, same
from tests.training import ranks

TEXT = "def fibonacci(n):\n    if n < 2:\n        return n\n    return"
pytestmark = pytest.mark.soak  # half a minute, most of it undoing the quantisation


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file's weights in full, as a Hugging Face folder with its tokenizer."""
    pytest.importorskip("gguf", reason="transformers reads GGUF files through it")
    pytest.importorskip("accelerate", reason="transformers reads GGUF files with it")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = fixture("SmolLM2-135M-Instruct"), "SmolLM2-135M-Instruct.Q4_1.gguf"
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    del loaded.config.quantization_config
    loaded.hf_quantizer = None
    made = tmp_path_factory.mktemp("smollm2")
    loaded.save_pretrained(made)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(made)
    return made


def test_the_real_model_goes_both_ways(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counts = to_checkpoint(model, tmp_path / "training")
    assert counts["vocabulary"] == 49_152 and counts["rows_added"] == 0 and counts["tensors"] == 2 + 30 * 6
    (tmp_path / "back").mkdir()
    to_hugging_face(tmp_path / "training", tmp_path / "training" / "hugging_face", tmp_path / "back")
    assert same(load_file(tmp_path / "back" / "model.safetensors"), load_file(model / "model.safetensors"))

    back, words = AutoModelForCausalLM.from_pretrained(tmp_path / "back"), AutoTokenizer.from_pretrained(tmp_path / "back")
    prompt = words(TEXT, return_tensors="pt")
    text = words.decode(back.generate(**prompt, max_new_tokens=16, do_sample=False)[0])
    assert "fibonacci(" in text.removeprefix(TEXT), text  # a real model goes on like this

    ids = prompt["input_ids"]
    with torch.no_grad():
        expected = back(input_ids=ids).logits
    folder = latest(tmp_path / "training")
    assert expected.abs().max() > 10
    for layout in (Layout(), Layout(pipeline=2), Layout(tensor=3)):
        answers = ranks.run(engine_logits, layout.model_parallel, layout, [folder], ids)
        found = [answer[0] for answer in answers if answer[0] is not None]
        assert found and all((logits - expected).abs().max() <= 1e-4 for logits in found)  # the gate
