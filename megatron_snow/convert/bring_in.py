"""A Hugging Face model -> a checkpoint that any layout loads: the way back of ``export``.

Tensor by tensor from the safetensors files into one torch_dist file: no process group, no megatron, no GPU, memory for
two tensors at most. The checkpoint has step 0 and no optimizer state; a phase that starts from it starts its optimizer afresh.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.checkpoint.store import FORMAT, Description, begin, publish
from megatron_snow.convert.companions import keep_companions
from megatron_snow.convert.config import BaseConfig, Dtype, read_config
from megatron_snow.convert.llama import hugging_face_shapes, hugging_face_to_megatron, megatron_names
from megatron_snow.convert.safetensors_folder import FLOATS, StoredTensor, open_safetensors, read_tensor
from megatron_snow.model.settings import ModelSettings, padded_vocabulary, shape
from megatron_snow.parallel.settings import Layout

_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")  # old files hold what follows from rope_theta
PHASE = "base"
"""What the description calls the phase of a checkpoint that was not trained here."""


def to_checkpoint(
    folder: Path, training: Path, vocabulary: int | None = None, dtype: Dtype | None = None, model: ModelSettings | None = None
) -> dict[str, Any]:
    """Write the Hugging Face model in ``folder`` as ``training/checkpoints/step-00000000``; returns the counts.

    Args:
        folder: config.json and safetensors weights of a Llama or Qwen2 model (``config`` says which); bf16, fp16 or fp32.
        training: gets the checkpoint and, in ``hugging_face``, the model's tokenizer and settings for the way back.
        vocabulary: tokens of the tokenizer the model shall go on with; left out, the rows of its embedding.
            The checkpoint has that many rows, padded to ``vocabulary_multiple``: the model's rows beyond are cut, those it
            lacks are added as the mean of its rows (see ``llama``). The counts say how many.
        dtype: of the checkpoint; left out, bf16 for a bf16 model and fp32, which loses nothing, for any other.
        model: the settings the checkpoint is for; left out, those of the model. The shape must be the model's own.

    Raises:
        SnowError: where the folder is damaged, holds another kind of model, or not the one that ``model`` describes.
    """
    config = read_config(folder)
    settings = model or config.model
    check_shape(folder, config, settings)
    tensors = open_safetensors(folder)
    _check_tensors(folder, tensors, config)
    chosen: Dtype = dtype or ("bf16" if all(one.item == "BF16" for one in tensors.values()) else "fp32")
    padded = padded_vocabulary(settings, vocabulary or config.vocabulary)
    kept = min(config.vocabulary, padded)
    description = Description(
        format=FORMAT, phase=PHASE, step=0, tokens=0, model=settings, vocabulary=padded, sequence=config.positions, precision=chosen, layout=Layout(), seed=0,
    )  # fmt: skip
    size = _write(tensors, training, description, kept)
    keep_companions(folder, training)
    return {
        "dtype": chosen, "tensors": len(megatron_names(settings)), "bytes": size, "vocabulary": padded, "rows_kept": kept,
        "rows_cut": config.vocabulary - kept, "rows_added": padded - kept,
    }  # fmt: skip


def check_shape(folder: Path, config: BaseConfig, model: ModelSettings) -> None:
    """Refuse a base model of another shape than the settings say. Raises SnowError naming each difference."""
    theirs, ours = shape(config.model), shape(model)
    differences = [f"model.{name} {ours[name]}, there {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differences:
        raise SnowError(f"the model in {folder} has another shape than the recipe: {'; '.join(differences)}; set these fields, or write 'model: base'")


def _check_tensors(folder: Path, tensors: dict[str, StoredTensor], config: BaseConfig) -> None:
    expected = hugging_face_shapes(config.model, config.vocabulary)
    if missing := [name for name in expected if name not in tensors]:
        raise SnowError(f"{folder} lacks {len(missing)} of the tensors its config.json asks for, {missing[0]} among them: fetch the whole model")
    for name, wanted in expected.items():
        stored = tensors[name]
        if stored.shape != wanted:
            raise SnowError(f"{stored.path}: {name} has shape {list(stored.shape)}, config.json says {list(wanted)}: the two are not of one model")
        if stored.item not in FLOATS:
            raise SnowError(f"{stored.path}: {name} is stored as {stored.item}; weights in {', '.join(FLOATS)} can be converted, quantised ones cannot")
    ignored = {"lm_head.weight"} if config.model.tied else set()  # a tied model's copy, which transformers does not load either
    if foreign := [name for name in tensors if name not in expected and name not in ignored and not _DERIVED.fullmatch(name)]:
        raise SnowError(
            f"{tensors[foreign[0]].path}: {foreign[0]} has no place in the model that config.json describes ({len(foreign)} such tensors): "
            "the model does more than its configuration says, so it is not converted"
        )


def _write(tensors: dict[str, StoredTensor], training: Path, description: Description, kept: int) -> int:
    """Stream the weights into the checkpoint and publish it; returns their bytes."""
    import torch

    from megatron_snow.checkpoint.weights_file import WeightsWriter

    wanted = torch.float32 if description.precision == "fp32" else torch.bfloat16
    names, size = megatron_names(description.model), 0
    saving = begin(training, 0)
    with WeightsWriter(saving) as out, Progress("weights", total=len(names), unit="tensors") as bar:
        for name in names:
            tensor = hugging_face_to_megatron(
                name, lambda source: read_tensor(tensors[source], source), description.model, kept, description.vocabulary, wanted
            )
            out.add(name, tensor)
            size += tensor.nbytes
            del tensor  # before the next is read
            bar.advance()
    publish(saving, training, description)
    return size
