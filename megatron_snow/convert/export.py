"""The convert arrow: the last checkpoint of a phase -> a folder that AutoModelForCausalLM and AutoTokenizer load.

Weights stream tensor by tensor from the checkpoint's pieces into their places in the safetensors files: no process
group, no megatron, no optimizer state, and memory for about two tensors whatever the model's size. The price is that a file
is written in as many pieces as it has tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.checkpoint.store import find_checkpoint, read_description
from megatron_snow.convert.companions import model_card, read_companions, write_companions, write_json
from megatron_snow.convert.config import NAMES, Dtype, hugging_face_config
from megatron_snow.convert.llama import hugging_face_shapes, megatron_to_hugging_face
from megatron_snow.convert.safetensors_file import ShardedWriter
from megatron_snow.model.settings import ModelSettings

_ITEMS = {"bf16": "BF16", "fp32": "F32"}


def to_hugging_face(training: Path, tokenizer: Path, work: Path, dtype: Dtype | None = None, keep_padding: bool = False) -> dict[str, Any]:
    """Write the newest checkpoint of the folder ``training`` into ``work`` as a Hugging Face model; returns the counts.

    Args:
        training: what the train arrow made, or one ``step-*`` checkpoint folder.
        tokenizer: what the tokenizer arrow made, or what came with the Hugging Face model a checkpoint was made from
            (``companions``); its size is the model's vocabulary (see ``llama`` on padding).
        work: gets config.json, generation_config.json, README.md, the tokenizer's files and model.safetensors (several with an index above 5 GB).
        dtype: of the weights; left out, that of the checkpoint.
        keep_padding: write every row of the embedding, also those of ids that no text can hold; the way back then restores all of them.

    Raises:
        SnowError: where there is no whole checkpoint, or checkpoint and tokenizer do not belong together.
    """
    folder = find_checkpoint(training)
    if folder is None:
        raise SnowError(f"{training} holds no whole checkpoint (checkpoints/step-*); train the phase first, or name another folder")
    description = read_description(folder)
    companions = read_companions(tokenizer, description)
    rows = description.vocabulary if keep_padding else companions.vocabulary
    stored: Dtype = "fp32" if description.precision == "fp32" else "bf16"
    chosen = dtype or stored
    size = _write_weights(folder, description.model, rows, work, chosen)
    write_companions(companions, work)
    write_atomically(work / "README.md", model_card(description, rows, NAMES[chosen]).encode())
    write_json(work / "config.json", hugging_face_config(description.model, rows, description.sequence, chosen, companions.ids))
    shapes = hugging_face_shapes(description.model, rows)
    return {
        "checkpoint": folder.name, "tokens": description.tokens, "dtype": chosen, "tensors": len(shapes), "bytes": size,
        "vocabulary": rows, "padding_cut": description.vocabulary - rows,
    }  # fmt: skip


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
            parts = megatron_to_hugging_face(name, tensor, model, vocabulary)
            for target in list(parts):
                out.write(target, parts.pop(target).to(wanted))
                bar.advance()
            del tensor  # before the next is read
        if missing := out.missing:
            raise SnowError(f"{folder} lacks {len(missing)} of the model's tensors ({missing[0]} among them): damaged; use another checkpoint")
    return out.bytes
