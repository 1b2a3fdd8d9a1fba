"""A recipe file -> a checked ``Recipe``, or one message that says which field is wrong and what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.recipe.base import resolve_base
from megatron_snow.recipe.settings import Recipe

M = TypeVar("M", bound=BaseModel)
_MOST_VALUES = 100_000  # of a YAML file (ours: the shipped recipes have some hundred)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_recipe(path: Path, overrides: Sequence[str] = (), edit: Callable[[dict[str, Any]], None] | None = None) -> Recipe:
    """Read, override (``key.path=value``, the value in YAML), ``edit`` the tree where that is given, and check a recipe.

    Raises SnowError naming the field's path, the value and what is allowed; an unknown key gets its nearest match.
    """
    tree = read_tree(path, "recipe")
    for override in overrides:
        _override(tree, override)
    if edit is not None:
        edit(tree)
    resolve_base(tree)
    return checked(Recipe, tree, path, "recipe")


def read_tree(path: Path, what: str) -> dict[str, Any]:
    """A YAML file's mapping. Raises SnowError where it cannot be read, is no YAML, or holds something else; ``what`` it should be, in words."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SnowError(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}; the shipped ones are in examples/") from error
    tree = _unshared(_parse_yaml(text, str(path)), str(path))
    if not isinstance(tree, dict):
        raise SnowError(f"{path} is not a {what}: the top level must be 'key: value' lines, found {type(tree).__name__}")
    return tree


def checked(model: type[M], tree: dict[str, Any], path: Path, what: str) -> M:
    """``tree`` as ``model``. Raises SnowError naming each wrong field's path, the value and what is allowed."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise SnowError(f"{path} is not a valid {what}:\n" + "\n".join(_explain(item, model, what) for item in error.errors())) from error


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise SnowError(f"{name} is not YAML: {' '.join(str(error).split())}; see examples/ for recipes to start from") from error


def _unshared(value: Any, name: str) -> Any:
    """A copy in which no two places are one object: YAML's anchors make them so, and an override of one would change the other.

    Raises SnowError where anchors unfold without end, or to more than any recipe holds.
    """
    left = _MOST_VALUES

    def copied(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise SnowError(f"{name} unfolds to more than {_MOST_VALUES:,} values: its anchors (&) repeat or contain each other; write the values out")
        if isinstance(value, dict):
            return {key: copied(item) for key, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, list) else value

    try:
        return copied(value)
    except RecursionError as error:
        raise SnowError(f"{name}: an anchor (&) contains itself, or values are nested too deeply; write the values out") from error


def _override(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise SnowError(f"--set {override!r}: write it as key.path=value, for example --set train.phases.general.tokens=1M")
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        node = _child(node, key, create=True)
        if not isinstance(node, dict | list):
            raise SnowError(f"--set {override!r}: {'.'.join(keys[: depth + 1])} is the value {node!r}, it has no fields to set")
    if isinstance(node, list):
        if not keys[-1].isdigit() or int(keys[-1]) >= len(node):
            raise SnowError(f"--set {override!r}: {'.'.join(keys[:-1])} is a list of {len(node)}; name an index below that")
        node[int(keys[-1])] = _parse_yaml(value, f"--set {override}")
    else:
        node[keys[-1]] = _parse_yaml(value, f"--set {override}")


def _child(node: Any, key: str, create: bool) -> Any:
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return node[int(key)]
    if isinstance(node, dict):
        if node.get(key) is None and create:
            node[key] = {}
        return node[key]
    raise SnowError(f"--set: no field {key!r} in {node!r}")


def _explain(item: Any, root: type[BaseModel], what: str) -> str:
    """One of pydantic's complaints as one line for the user."""
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(root, item["loc"][:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(sorted(known))}"
        return f"  {path}: unknown key {location[-1]!r}; {hint}"
    if item["type"] == "missing":
        return f"  {path}: missing; add it"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if isinstance(item["input"], dict | list | BaseModel) or repr(item["input"]) in message else f" (it is {item['input']!r})"
    return f"  {path or what}: {message}{given}"


def _known_keys(root: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The field names of the settings class at ``location`` in ``root``."""
    models: list[Any] = [root]
    for part in location:
        following: list[Any] = []
        for model in models:
            if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
                following += _models_in(model.model_fields[str(part)].annotation)
        # A list index, a dictionary key or a union's tag names no field: stay at the same classes.
        models = following or models
    return [name for model in models if isinstance(model, type) and issubclass(model, BaseModel) for name in model.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    """Every settings class inside a type such as ``dict[str, Phase] | None``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
