"""torch_dist's ``.metadata`` is a pickle; here it is read by an unpickler that knows only what belongs there.

Nothing else of a checkpoint is unpickled: tensors and megatron's ``common.pt`` load with ``weights_only``. A file
that names any other class is refused before the class is looked up.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata

from megatron_snow.artifacts.errors import SnowError

_ALLOWED = {
    "collections": {"OrderedDict", "defaultdict"},
    "builtins": {"dict", "list", "set", "tuple", "int", "str", "slice"},
    "torch": {"Size", "float32", "bfloat16", "float16", "float64", "int64", "int32", "uint8", "strided"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
        "StorageMeta", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix", "StorageMeta"},
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
}  # fmt: skip


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which has no place there")
        return super().find_class(module, name)


def read_metadata(folder: Path) -> Metadata:
    """The torch.distributed.checkpoint metadata of a checkpoint folder: names, shapes and places of all tensors.

    Raises:
        SnowError: where the file is missing, damaged, or would run foreign code.
    """
    path = folder / ".metadata"
    try:
        with path.open("rb") as file:
            metadata = _MetadataUnpickler(file).load()
    except FileNotFoundError:
        raise SnowError(f"{folder} holds no .metadata: not a torch_dist checkpoint, or a killed save; name a whole checkpoint") from None
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, IndexError, KeyError, TypeError, ImportError, UnicodeDecodeError) as error:
        raise SnowError(f"{path} is damaged or foreign ({error}): not read; use another checkpoint") from error
    if not isinstance(metadata, Metadata):
        raise SnowError(f"{path} holds a {type(metadata).__name__}, not checkpoint metadata: use another checkpoint")
    return metadata
