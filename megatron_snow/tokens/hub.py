"""What transformers' AutoTokenizer would load, as a ``tokenizer.json``: without transformers where that is sure to be the same.

Importing transformers and asking AutoTokenizer takes seconds, more than encoding 100 MB. A folder whose configuration
says nothing but which of the tokens already in ``tokenizer.json`` are special is that file as it stands; everything
else goes the long way. Tests hold both ways to each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import parse_tokenizer

_PLAIN = {"TokenizersBackend", "PreTrainedTokenizerFast"}  # transformers' classes that take tokenizer.json as it is
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_HARMLESS = {  # keys of tokenizer_config.json that do not change which ids a text gets
    *_NAMED, "backend", "tokenizer_class", "model_max_length", "clean_up_tokenization_spaces", "padding_side", "truncation_side", "model_input_names",
    "chat_template", "name_or_path", "is_local", "local_files_only",
}  # fmt: skip
_OTHERS = ("config.json", "special_tokens_map.json", "added_tokens.json")  # files that AutoTokenizer would look into as well
_PATCHED_ABOVE = 100_000  # entries; of larger vocabularies transformers repairs a pattern that some Mistral models shipped wrong


class Loaded(NamedTuple):
    """A Hugging Face tokenizer as data."""

    text: str
    """Its ``tokenizer.json``."""
    vocabulary: int
    """Entries, added ones included."""
    end: int | None
    """Id of its end-of-sequence token, else of its separator; None where it names neither."""


def load(model: str, special: Sequence[str] = ()) -> Loaded:
    """The tokenizer in a folder, a ``tokenizer.json`` or on the hub, with the ``special`` tokens it lacks added.

    Raises SnowError where there is none or it cannot be loaded.
    """
    path = Path(model)
    if path.is_dir() or model.startswith(("/", ".", "~")):
        file = path if path.is_file() else path / "tokenizer.json"
        if not file.is_file():
            raise SnowError(f"--tokenizer-model {model}: there is no tokenizer.json; give the folder of a Hugging Face tokenizer, or the file itself")
        if not special and file.name == "tokenizer.json" and (found := as_it_stands(file.parent)):
            return found
    return with_transformers(model, special)


def as_it_stands(folder: Path) -> Loaded | None:
    """The folder's ``tokenizer.json`` where AutoTokenizer would give just that, else None."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = parse_tokenizer(text)
        special = {entry["content"] for entry in json.loads(text)["added_tokens"] if entry["special"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever goes the long way says what is wrong
    if not isinstance(config, dict) or config.get("tokenizer_class") not in _PLAIN or not config.keys() <= _HARMLESS:
        return None
    named = [config[key] for key in _NAMED if config.get(key) is not None]
    if not all(isinstance(token, str) and token in special for token in named) or any((folder / other).exists() for other in _OTHERS):
        return None
    if (entries := tokenizer.get_vocab_size(with_added_tokens=True)) > _PATCHED_ABOVE:
        return None
    end = config.get("eos_token") or config.get("sep_token")
    return Loaded(text, entries, None if end is None else tokenizer.token_to_id(end))


def with_transformers(model: str, special: Sequence[str] = ()) -> Loaded:
    """The tokenizer as AutoTokenizer makes it."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(model)
    try:
        if path.is_file() and not (path.name == "tokenizer.json" and (path.parent / "tokenizer_config.json").exists()):
            fast: Any = PreTrainedTokenizerFast
            loaded = fast(tokenizer_file=model)
        else:  # Megatron-LM takes the folder; the file beside its configuration means the same
            loaded = AutoTokenizer.from_pretrained(path.parent if path.is_file() else model, trust_remote_code=False)
        if special:
            loaded.add_special_tokens({"additional_special_tokens": list(special)})
        text = loaded.backend_tokenizer.to_str()
    except Exception as error:  # whatever the loaders raise, from broken JSON to no network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SnowError(f"--tokenizer-model {model}: no Hugging Face tokenizer that can be loaded ({reason}); give its folder or tokenizer.json") from error
    end = loaded.eos_token or loaded.sep_token
    return Loaded(text, len(loaded), None if end is None else loaded.convert_tokens_to_ids(end))
