"""A reference to a Hugging Face model -> its folder on this machine: a local folder, a fixture, or a name on the hub."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import PREFIX, resolve
from megatron_snow.artifacts.settings import digest
from megatron_snow.convert.companions import TOKENIZER_FILES

_SETTINGS = ("config.json", "generation_config.json", *TOKENIZER_FILES)
_WEIGHTS = ("*.safetensors", "model.safetensors.index.json")


def is_hub_name(reference: str) -> bool:
    """Whether a reference can only be a name on the hub: no path that exists, that looks like one, no fixture."""
    return not (reference.startswith((PREFIX, "/", ".", "~")) or Path(reference).exists())


def model_folder(reference: str, weights: bool = True) -> Path:
    """The folder of a model, fetched from the hub where it is a hub name and not in the hub's cache yet.

    ``weights`` False does without the weights: enough to know its shape.

    Raises:
        SnowError: where there is no such folder, or the hub does not give it.
    """
    if not is_hub_name(reference):
        folder = Path(resolve(reference)).expanduser()
        if not folder.is_dir():
            raise SnowError(f"train.base.hugging_face {reference}: there is no such folder; give the folder of a Hugging Face model, or its name on the hub")
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(reference, allow_patterns=[*_SETTINGS, *(_WEIGHTS if weights else ())]))
    except Exception as error:  # whatever the hub client raises, from a name that cannot be one to no network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SnowError(
            f"train.base.hugging_face {reference}: neither a local folder nor a hub model that can be fetched ({reason}); check the name, or give a folder"
        ) from error


def model_fingerprint(reference: str) -> str:
    """Changes when a local model does: names, sizes and times of its weights, content of its settings. A hub name stands for itself."""
    if is_hub_name(reference):
        return f"hub {reference}"
    folder = model_folder(reference)
    weights = sorted(file for file in folder.glob("*.safetensors*") if file.is_file())
    settings = [[name, (folder / name).read_bytes().hex()] for name in ("config.json", "generation_config.json") if (folder / name).is_file()]
    return digest([settings, [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights]])
