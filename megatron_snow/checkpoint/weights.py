"""Model weights of a checkpoint, whole and one at a time, without process groups, megatron or optimizer state.

Names and shapes (h hidden, f ffn, d head size, q heads, k kv heads, V padded vocabulary), dtype as trained (bf16 or fp32):

    embedding.word_embeddings.weight                                [V, h]
    decoder.layers.N.self_attention.linear_qkv.layer_norm_weight    [h]             norm before attention
    decoder.layers.N.self_attention.linear_qkv.weight               [(q + 2k) d, h] per kv head: its q/k query heads, then key, then value
    decoder.layers.N.self_attention.linear_proj.weight              [h, q d]
    decoder.layers.N.mlp.linear_fc1.layer_norm_weight               [h]             norm before the MLP
    decoder.layers.N.mlp.linear_fc1.weight                          [2 f, h]        gate rows, then up rows
    decoder.layers.N.mlp.linear_fc2.weight                          [h, f]
    decoder.final_layernorm.weight                                  [h]
    output_layer.weight                                             [V, h]          absent where embeddings are tied

They come in this order (layers by number), whatever layout saved them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_ENDS = {"embedding.word_embeddings.weight": -1, "decoder.final_layernorm.weight": 1, "output_layer.weight": 2}
_IN_LAYER = (
    "self_attention.linear_qkv.layer_norm_weight", "self_attention.linear_qkv.weight", "self_attention.linear_proj.weight",
    "mlp.linear_fc1.layer_norm_weight", "mlp.linear_fc1.weight", "mlp.linear_fc2.weight",
)  # fmt: skip


def _order(name: str) -> tuple[int, int, int]:
    if match := _LAYER.fullmatch(name):
        return (0, int(match[1]), _IN_LAYER.index(match[2]))
    return (_ENDS[name], 0, 0)


def _is_weight(name: str) -> bool:
    match = _LAYER.fullmatch(name)
    return name in _ENDS or (match is not None and match[2] in _IN_LAYER)


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every model weight of a checkpoint, in reading order. Raises SnowError where it is not one of ours."""
    return {name: tuple(entry.size) for name, entry in _weights(read_metadata(folder), folder).items()}


def read_weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, whole tensor) for every model weight; holds one tensor and one stored piece of it at a time.

    Raises:
        SnowError: where the checkpoint is damaged, lacks a piece of a weight, or is not one of ours.
    """
    metadata = read_metadata(folder)
    for name, entry in _weights(metadata, folder).items():
        yield name, _assemble(folder, metadata, name, entry)


def _weights(metadata: Metadata, folder: Path) -> dict[str, TensorStorageMetadata]:
    found = {name: entry for name, entry in metadata.state_dict_metadata.items() if _is_weight(name) and isinstance(entry, TensorStorageMetadata)}
    if "embedding.word_embeddings.weight" not in found:
        raise SnowError(f"{folder} holds no model weights under the names megatron_snow gives them: name one of its checkpoints")
    return {name: found[name] for name in sorted(found, key=_order)}


def _assemble(folder: Path, metadata: Metadata, name: str, entry: TensorStorageMetadata) -> torch.Tensor:
    whole = torch.empty(entry.size, dtype=entry.properties.dtype)
    filled = 0
    for chunk in entry.chunks:
        piece = _read_piece(folder, metadata, name, chunk.offsets)
        window = tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))
        if piece.shape != chunk.sizes or piece.dtype != whole.dtype:
            raise SnowError(f"{folder}: a stored piece of {name} is {list(piece.shape)} {piece.dtype}, not as described: damaged, use another checkpoint")
        whole[window] = piece
        filled += piece.numel()
    if filled != whole.numel():
        raise SnowError(f"{folder}: the stored pieces of {name} hold {filled} of its {whole.numel()} numbers: damaged, use another checkpoint")
    return whole


def _read_piece(folder: Path, metadata: Metadata, name: str, offsets: torch.Size) -> torch.Tensor:
    place = metadata.storage_data.get(MetadataIndex(name, offsets)) if metadata.storage_data else None
    if place is None:
        raise SnowError(f"{folder}: .metadata does not say where {name} at {tuple(offsets)} is stored: damaged, use another checkpoint")
    path = folder / place.relative_path
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.length)
        piece = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise SnowError(f"{path} is damaged or missing ({name} cannot be read: {error}): use another checkpoint") from error
    if len(data) != place.length or not isinstance(piece, torch.Tensor):
        raise SnowError(f"{path} is cut short where {name} is stored: use another checkpoint")
    return piece
