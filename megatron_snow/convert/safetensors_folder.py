"""Reading the safetensors files of a Hugging Face model tensor by tensor, each into its own memory.

``safetensors.safe_open`` maps the file: what was read stays in this process's resident memory as long as the map lives.
Here a tensor is read and nothing stays behind. Everything the headers say is checked against the files' sizes when the
folder is opened, so that a cut download is found before the first tensor is converted.
Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.errors import SnowError

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_HEADER_BYTES = 100_000_000  # the format's own limit (safetensors, README)
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The types weights may have, and torch's names for them."""


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies."""

    path: Path
    item: str
    """safetensors' name of the type."""
    shape: tuple[int, ...]
    begin: int
    """First byte in the file."""
    bytes: int


def open_safetensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model folder, one file or several with an index.

    Raises:
        SnowError: where there are none, a file is missing, cut short or no safetensors file, or the index does not fit them.
    """
    if (folder / INDEX).is_file():
        return _indexed(folder)
    if (folder / SINGLE).is_file():
        return _header(folder / SINGLE)
    if pickled := sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth")):
        raise SnowError(
            f"{folder} holds pickled weights ({pickled[0].name}) and no {SINGLE}: pickles can run code and are not read; "
            "load the model with transformers where you trust it and write it again with save_pretrained"
        )
    raise SnowError(f"{folder} holds neither {SINGLE} nor {INDEX}: name the folder of a Hugging Face model with safetensors weights")


def read_tensor(stored: StoredTensor, name: str) -> Tensor:
    """The tensor, in its own type. Raises SnowError where the type is not one of ``FLOATS`` or the file cannot be read."""
    import torch

    if stored.item not in FLOATS:
        raise SnowError(f"{stored.path}: {name} is stored as {stored.item}; weights in {', '.join(FLOATS)} can be converted, quantised ones cannot")
    tensor = torch.empty(stored.shape, dtype=getattr(torch, FLOATS[stored.item]))
    view = memoryview(tensor.flatten().view(torch.uint8).numpy().data)
    try:
        with stored.path.open("rb", buffering=0) as file:
            file.seek(stored.begin)
            filled = 0
            while filled < len(view) and (count := file.readinto(view[filled:])):  # Linux reads at most 2 GiB at once
                filled += count
    except OSError as error:
        raise SnowError(f"cannot read {stored.path} ({error.strerror})") from error
    if filled < len(view):
        raise SnowError(f"{stored.path} ends before {name} does: it was cut short while being read; fetch the file again")
    return tensor


def _indexed(folder: Path) -> dict[str, StoredTensor]:
    index = folder / INDEX
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(file) for file in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnowError(f"{index} is damaged ({type(error).__name__}: {error}): fetch the file again") from error
    for file in files:
        if Path(file).name != file:
            raise SnowError(f"{index} names {file!r}, which is not a file of this folder: not read; fetch the model from where you trust it")
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise SnowError(f"{folder} lacks {missing[0]}, {len(missing)} of the {len(files)} files that {INDEX} names: fetch it")
    found = {file: _header(folder / file) for file in files}
    tensors = {}
    for name, file in places.items():
        if name not in found[file]:
            raise SnowError(f"{folder / file} does not hold {name}, as {INDEX} says it does: the two are not of one model; fetch them again")
        tensors[name] = found[file][name]
    return tensors


def _header(path: Path) -> dict[str, StoredTensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 8 + length <= size and length <= _HEADER_BYTES else b""
    except OSError as error:
        raise SnowError(f"cannot read {path} ({error.strerror})") from error
    if not text:
        raise SnowError(f"{path} is no safetensors file, or cut short in its header ({size} bytes): fetch it again")
    try:
        header = json.loads(text)
        tensors = {name: _entry(path, entry, 8 + length) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnowError(f"{path} has a damaged header ({type(error).__name__}: {error}): fetch it again") from error
    end = max((one.begin + one.bytes for one in tensors.values()), default=8 + length)
    if end != size:
        raise SnowError(f"{path} has {size} bytes, its header says {end}: it is cut short or damaged; fetch it again")
    return tensors


def _entry(path: Path, entry: dict[str, Any], start: int) -> StoredTensor:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    item = str(entry["dtype"])
    expected = math.prod(shape) * _ITEM_BYTES.get(item, 0)
    if min(begin, end - begin, *shape, 0) < 0 or (expected and end - begin != expected):
        raise ValueError(f"a tensor {item}{list(shape)} at {begin}..{end}")
    return StoredTensor(path, item, shape, start + begin, end - begin)
