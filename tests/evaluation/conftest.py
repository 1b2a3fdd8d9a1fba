"""A corpus, its tokenizer and a small random model, made by the real arrows and transformers."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.tokens.settings import TokenizerSettings
from megatron_snow.tokens.tokenizer import train_tokenizer

POSITIONS = 96


def document(name: str, text: str, language: str = "Python") -> Document:
    return Document(id=name, text=text, language=language, repository="r", path=name, license="", source="test")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few standard library files; held out: six Python files and two of Shell, one of them tiny."""
    folder = tmp_path_factory.mktemp("corpus")
    library = Path(sysconfig.get_path("stdlib"))
    python = [
        document(f"stdlib/{name}", (library / f"{name}.py").read_text()) for name in ("abc", "bisect", "heapq", "textwrap", "queue", "copy", "shlex", "string")
    ]
    shell = [document("shell/a", "#!/bin/sh\nset -eu\nfor i in 1 2 3; do echo $i; done\n" * 8, "Shell"), document("shell/b", "true\n", "Shell")]
    write_documents(folder / "standard", python)
    write_documents(folder / "heldout", [*python[:6], *shell])
    return folder


@pytest.fixture(scope="session")
def tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerSettings.model_validate({"train": {"vocabulary": 600}}), corpus, folder)
    return folder


@pytest.fixture(scope="session")
def model(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with wide random weights, so that its choices are clear-cut and depend on the whole context."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=600, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=POSITIONS, initializer_range=0.15, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    return folder
