"""What travels beside the weights of a Hugging Face model: tokenizer, special ids, generation settings, a model card.

Two kinds of folder say what it is: the tokenizer arrow's, and what came with a Hugging Face model (its files without the
weights), which ``keep_companions`` puts aside when a model is brought into a checkpoint and which goes out again with it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.units import format_count
from megatron_snow.checkpoint.store import Description
from megatron_snow.convert.config import read_config
from megatron_snow.model.settings import padded_vocabulary, parameters
from megatron_snow.tokens.encoder import load_tokenizer
from megatron_snow.tokens.special import END_OF_TEXT

FOLDER = "hugging_face"
"""Name of the folder, beside ``checkpoints``, with what came with a model."""
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "tokenizer.model", "vocab.json",
    "merges.txt",
)  # fmt: skip
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Companions:
    """A folder with a tokenizer and what it says about the model."""

    folder: Path
    vocabulary: int
    """Rows of the model's embedding that stand for something."""
    ids: dict[str, Any]
    """bos_token_id, eos_token_id, pad_token_id."""
    generation: dict[str, Any]
    """generation_config.json."""


def read_companions(folder: Path, description: Description) -> Companions:
    """What goes with a checkpoint.

    Raises:
        SnowError: where the folder holds no tokenizer, or checkpoint and tokenizer do not belong together.
    """
    if (folder / "config.json").is_file():
        return _of_model(folder, description)
    known = load_tokenizer(folder)
    expected = padded_vocabulary(description.model, known.vocabulary)
    if description.vocabulary != expected:
        raise SnowError(
            f"the checkpoint's embedding has {description.vocabulary} rows, a model trained with the tokenizer in {folder} "
            f"({known.vocabulary} tokens) has {expected}: name the tokenizer the model was trained with"
        )
    ids = dict.fromkeys(_IDS, known.special[END_OF_TEXT])
    return Companions(folder, known.vocabulary, ids, dict(ids))


def _of_model(folder: Path, description: Description) -> Companions:
    rows = read_config(folder).vocabulary
    expected = padded_vocabulary(description.model, rows)
    if description.vocabulary != expected:
        raise SnowError(
            f"the checkpoint's embedding has {description.vocabulary} rows, a model made from the one in {folder} ({rows} rows) has {expected}: "
            "name the folder of the model it was made from, or the tokenizer it was trained with"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    ids = {name: config.get(name) for name in _IDS}
    path = folder / "generation_config.json"
    try:
        generation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {name: value for name, value in ids.items() if value is not None}
    except ValueError as error:
        raise SnowError(f"{path} is damaged ({error}): fetch the file again, or delete it") from error
    return Companions(folder, rows, ids, generation)


def write_companions(companions: Companions, work: Path) -> None:
    """Put tokenizer and generation settings into a model's folder."""
    _copy(companions.folder, work, TOKENIZER_FILES)
    write_json(work / "generation_config.json", companions.generation)


def keep_companions(model: Path, training: Path) -> None:
    """Put aside, in ``training/hugging_face``, what came with the weights of the Hugging Face model in ``model``."""
    kept = training / FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    _copy(model, kept, (*TOKENIZER_FILES, "config.json", "generation_config.json"))


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file as people read it."""
    write_atomically(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def model_card(description: Description, vocabulary: int, dtype: str) -> str:
    """README.md of the model folder: the fields a hub reads, and what the checkpoint says about the model. The licence is the owner's to add."""
    model = description.model
    shape = f"{model.layers} layers, {model.hidden} wide, {model.heads} heads of {model.head_size}, {model.kv_heads} key/value heads, feed-forward {model.ffn}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- code
- {"qwen2" if model.qkv_bias else "llama"}
---

Converted by megatron_snow from a megatron-core checkpoint.

| | |
|---|---|
| architecture | {"Qwen2" if model.qkv_bias else "Llama"}: {shape}, {"tied" if model.tied else "untied"} embeddings |
| parameters | {format_count(parameters(model, vocabulary))} |
| vocabulary | {vocabulary} |
| sequence | {description.sequence} tokens |
| weights | {dtype} |
| training | phase {description.phase}, step {description.step}, {format_count(description.tokens)} tokens in that phase |
"""
