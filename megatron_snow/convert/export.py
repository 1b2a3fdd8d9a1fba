"""The convert arrow: the last checkpoint of a phase -> a folder that AutoModelForCausalLM and AutoTokenizer load.

Weights stream tensor by tensor from the checkpoint's pieces into their places in the safetensors files: no process
group, no megatron, no optimizer state, and memory for about two tensors whatever the model's size. The price is that a file
is written in as many pieces as it has tensors.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.convert.llama import hugging_face_shapes, megatron_to_hugging_face
from megatron_snow.convert.safetensors_file import ShardedWriter
from megatron_snow.model.settings import ModelSettings, padded_vocabulary
from megatron_snow.tokens.encoder import CodeTokenizer, load_tokenizer
from megatron_snow.tokens.special import END_OF_TEXT

if TYPE_CHECKING:
    from megatron_snow.checkpoint.store import Description

Dtype = Literal["bf16", "fp32"]
_NAMES = {"bf16": "bfloat16", "fp32": "float32"}
_ITEMS = {"bf16": "BF16", "fp32": "F32"}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def to_hugging_face(training: Path, tokenizer: Path, work: Path, dtype: Dtype | None = None) -> dict[str, Any]:
    """Write the newest checkpoint of the folder ``training`` into ``work`` as a Hugging Face Llama model; returns the counts.

    Args:
        training: what the train arrow made, or one ``step-*`` checkpoint folder.
        tokenizer: what the tokenizer arrow made; its size is the model's vocabulary (see ``llama`` on padding).
        work: gets config.json, generation_config.json, the tokenizer's files and model.safetensors (several with an index above 5 GB).
        dtype: of the weights; left out, that of the checkpoint.

    Raises:
        SnowError: where there is no whole checkpoint, or checkpoint and tokenizer do not belong together.
    """
    from megatron_snow.checkpoint.store import latest, read_description

    folder = training if training.name.startswith("step-") else latest(training)
    if folder is None:
        raise SnowError(f"{training} holds no whole checkpoint (checkpoints/step-*); train the phase first, or name another folder")
    description = read_description(folder)
    known = load_tokenizer(tokenizer)
    _check_vocabulary(description, known)
    stored: Dtype = "fp32" if description.precision == "fp32" else "bf16"
    chosen = dtype or stored
    config = llama_config(description.model, known, description.sequence, chosen)
    size = _write_weights(folder, description.model, known.vocabulary, work, chosen)
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, work / name)
    end = known.special[END_OF_TEXT]
    generation = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    for name, content in (("generation_config.json", generation), ("config.json", config)):
        write_atomically(work / name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    shapes = hugging_face_shapes(description.model, known.vocabulary)
    return {
        "checkpoint": folder.name, "tokens": description.tokens, "dtype": chosen, "tensors": len(shapes), "bytes": size,
        "vocabulary": known.vocabulary, "padding_cut": description.vocabulary - known.vocabulary,
    }  # fmt: skip


def llama_config(model: ModelSettings, tokenizer: CodeTokenizer, positions: int, dtype: Dtype) -> dict[str, Any]:
    """config.json of the model. The rotary base and the type are there under the names of transformers 5 and of 4."""
    end = tokenizer.special[END_OF_TEXT]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocabulary,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": model.norm_epsilon,
        "rope_theta": float(model.rope_theta),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(model.rope_theta)},
        "tie_word_embeddings": model.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": model.init_std,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "dtype": _NAMES[dtype],
        "torch_dtype": _NAMES[dtype],
    }


def _check_vocabulary(description: Description, tokenizer: CodeTokenizer) -> None:
    expected = padded_vocabulary(description.model, tokenizer.vocabulary)
    if description.vocabulary != expected:
        raise SnowError(
            f"the checkpoint's embedding has {description.vocabulary} rows, a model trained with the tokenizer in {tokenizer.folder} "
            f"({tokenizer.vocabulary} tokens) has {expected}: name the tokenizer the model was trained with"
        )


def _write_weights(folder: Path, model: ModelSettings, vocabulary: int, work: Path, dtype: Dtype) -> int:
    """Stream the weights; returns their bytes."""
    import torch

    from megatron_snow.checkpoint.weights import read_weights

    wanted = torch.float32 if dtype == "fp32" else torch.bfloat16
    for stale in work.glob("model*.safetensors*"):  # of a killed run: another number of shards would stay beside these
        stale.unlink()
    shapes = hugging_face_shapes(model, vocabulary)
    with ShardedWriter(work, shapes, _ITEMS[dtype]) as out, Progress("weights", total=len(shapes), unit="tensors") as bar:
        for name, tensor in read_weights(folder):
            for target, part in megatron_to_hugging_face(name, tensor, model, vocabulary).items():
                out.write(target, part.to(wanted))
                bar.advance()
        if missing := out.missing:
            raise SnowError(f"{folder} lacks {len(missing)} of the model's tensors ({missing[0]} among them): damaged; use another checkpoint")
    return out.bytes
