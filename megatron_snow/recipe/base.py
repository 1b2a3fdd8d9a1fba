"""A recipe that starts from a model that is there already: its stage, its fingerprint, and what ``base`` stands for in ``model`` and ``tokenizer``.

train:
  base: {hugging_face: Qwen/Qwen2.5-Coder-0.5B}     # or {checkpoint: out/other/6-train/general}
model: base         # its shape; or write the fields out, which are then compared with it
tokenizer: base     # its tokenizer (a Hugging Face model's), to which the special tokens it lacks are added
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import file_sha256
from megatron_snow.checkpoint.store import DESCRIPTION, find_checkpoint, read_description
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Stage
from megatron_snow.training.base import BaseSettings

NAME = "base"


def resolve_base(tree: dict[str, Any]) -> None:
    """Put into a recipe's tree what ``model: base`` and ``tokenizer: base`` stand for. Raises SnowError where it has no usable base."""
    asking = [name for name in ("model", "tokenizer") if tree.get(name) == NAME]
    if not asking:
        return
    train = tree.get("train")
    given = train.get("base") if isinstance(train, dict) else None
    if given is None:
        raise SnowError(f"{asking[0]}: base stands for the model of train.base, which the recipe does not give: add it, or write {asking[0]} out")
    try:
        base = BaseSettings.model_validate(given)
    except ValidationError as error:
        raise SnowError(f"train.base: {error.errors()[0]['msg'].removeprefix('Value error, ')} (it is {given!r})") from error
    if "model" in asking:
        tree["model"] = _shape(base)
    if "tokenizer" in asking:
        tree["tokenizer"] = {"path": _tokenizer(base)}


def _shape(base: BaseSettings) -> dict[str, Any]:
    if base.checkpoint is not None:
        return read_description(_checkpoint(base.checkpoint)).model.model_dump()
    from megatron_snow.convert.config import read_config
    from megatron_snow.convert.source import model_folder

    return read_config(model_folder(str(base.hugging_face), weights=False)).model.model_dump()


def _tokenizer(base: BaseSettings) -> str:
    if base.hugging_face is not None:
        return base.hugging_face
    raise SnowError("tokenizer: base takes a Hugging Face model's tokenizer, and a checkpoint holds none: give tokenizer.path, the one it was trained with")


def _checkpoint(path: Path) -> Path:
    folder = find_checkpoint(path.expanduser())
    if folder is None or not (folder / DESCRIPTION).is_file():
        raise SnowError(f"train.base.checkpoint {path}: there is no whole checkpoint; name a training folder (out/NAME/6-train/PHASE) or a step-* folder in it")
    return folder


def base_fingerprint(recipe: Recipe) -> dict[str, str]:
    """What the first phase depends on where it starts from a checkpoint: the digest of every file, as its description holds it."""
    folder = base_checkpoint(recipe)
    return {} if folder is None else {"base checkpoint": file_sha256(folder / DESCRIPTION)}


def base_checkpoint(recipe: Recipe) -> Path | None:
    """The checkpoint the first phase starts from, where the recipe names one."""
    base = recipe.train.base
    return None if base is None or base.checkpoint is None else _checkpoint(base.checkpoint)


def base_stages(recipe: Recipe) -> list[Stage]:
    """The arrow that makes a checkpoint of a Hugging Face model, where the recipe starts from one."""
    if recipe.train.base is None or recipe.train.base.hugging_face is None:
        return []
    reference = recipe.train.base.hugging_face

    def run(inputs: Mapping[str, Path], work: Path) -> dict[str, Any]:
        from megatron_snow.convert import to_checkpoint
        from megatron_snow.convert.source import model_folder
        from megatron_snow.training.phase import vocabulary_of

        folder = model_folder(reference)
        refuse_other_tokenizer(folder, inputs["tokenizer"])
        return to_checkpoint(folder, work, vocabulary_of(inputs["tokenizer"]), model=recipe.model)

    def external() -> dict[str, str]:
        from megatron_snow.convert.source import model_fingerprint

        return {"Hugging Face model": model_fingerprint(reference)}

    settings = {"model": recipe.model.identity()}
    return [Stage(NAME, "base", "6-base", 1, settings, run, ("tokenizer",), external=external, budget=recipe.budget.get("base"))]


def refuse_other_tokenizer(model: Path, tokenizer: Path) -> None:
    """Refuse to go on from a model with a tokenizer that gives its tokens other ids: all it knows would be about other tokens.

    Raises SnowError naming the first such token. A model without a tokenizer.json cannot be checked, which is said.
    """
    from tokenizers import Tokenizer

    from megatron_snow.artifacts.progress import say

    if not (model / "tokenizer.json").is_file():
        say(f"  {model} brings no tokenizer.json: whether it was trained with the recipe's tokenizer cannot be checked")
        return
    theirs, ours = (Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True) for folder in (model, tokenizer))
    if other := [token for token, number in theirs.items() if ours.get(token) != number]:
        token = min(other, key=lambda token: theirs[token])
        raise SnowError(
            f"{len(other)} of the {len(theirs)} tokens of the base model in {model} have another id in the recipe's tokenizer ({token!r} is "
            f"{theirs[token]} there and {ours.get(token)} here): write 'tokenizer: base'"
        )
