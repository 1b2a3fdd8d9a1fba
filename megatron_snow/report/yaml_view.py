"""The recipe as YAML-like lines, each knowing whether it differs from its default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from megatron_snow.artifacts.units import format_count

_PLAIN = re.compile(r"[A-Za-z_./<|][A-Za-z0-9_./<>|+ -]*")  # strings that may need no quotes
_HINT_FROM = 100_000  # ours: where digits have to be counted
_ONE_LINE = 100  # characters of a list of scalars on one line (ours)


@dataclass(frozen=True)
class Absent:
    """A place that the defaults do not have: a field that must be given, or something ``added`` to what would be there."""

    added: bool


@dataclass(frozen=True)
class RecipeLine:
    """One line of the recipe."""

    text: str
    changed: bool = False
    hint: str = ""


def recipe_lines(value: Any, default: Any, depth: int = 0) -> Iterator[RecipeLine]:
    """Lines for a JSON-able tree, beside the tree of its defaults.

    What a section (depth 0) has no default for must be given; below that, what the default lacks was added.
    """
    for key, item in value.items():
        known = default.get(key, Absent(added=depth > 1)) if isinstance(default, dict) else default if isinstance(default, Absent) else Absent(added=True)
        yield from _entry(f"{'  ' * depth}{_scalar(key)}:", item, known, depth)


@dataclass(frozen=True)
class Change:
    """A setting that differs from its default."""

    path: str
    """``train.phases.general.batch``."""
    value: str
    default: str
    """Empty where there is none."""


def changes(value: dict[str, Any], default: Any, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """The settings that ``recipe_lines`` marks, in its order."""
    for key, item in value.items():
        known = default.get(key, Absent(added=len(path) > 1)) if isinstance(default, dict) else default if isinstance(default, Absent) else Absent(added=True)
        if isinstance(item, dict) and item:
            yield from changes(item, known, (*path, key))
        elif known.added if isinstance(known, Absent) else item != known:
            yield Change(".".join((*path, key)), _short(item), "" if isinstance(known, Absent) else _short(known))


def _short(value: Any) -> str:
    """A value on one line: ``500B``, ``[a, b]``, the beginning of what is longer."""
    text = _spelt(value) or (_scalar(value) if not isinstance(value, list | dict) or _fits(value) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _ONE_LINE else text[: _ONE_LINE - 1] + "…"


def _entry(head: str, item: Any, known: Any, depth: int) -> Iterator[RecipeLine]:
    changed = known.added if isinstance(known, Absent) else item != known
    if isinstance(item, dict) and item:
        yield RecipeLine(head, changed and not isinstance(known, dict))
        yield from recipe_lines(item, known, depth + 1)
    elif isinstance(item, list) and item and not _fits(item):
        yield RecipeLine(head, changed)
        for one in item:
            yield from _item(one, changed, depth + 1)
    else:
        hint = f"  # {spelt}" if (spelt := _spelt(item)) else ""
        was = f"  # default {_spelt(known) or _scalar(known)}" if changed and not isinstance(known, dict | list | Absent) else ""
        yield RecipeLine(f"{head} {_scalar(item)}", changed, hint + was)


def _spelt(value: Any) -> str:
    """500000000000 -> ``500B``; nothing for what is read at a glance."""
    return format_count(value) if isinstance(value, int) and not isinstance(value, bool) and value >= _HINT_FROM else ""


def _item(one: Any, changed: bool, depth: int) -> Iterator[RecipeLine]:
    """A member of a list; dictionaries below the dash."""
    if not isinstance(one, dict) or not one:
        yield RecipeLine(f"{'  ' * depth}- {_scalar(one)}", changed)
        return
    for index, line in enumerate(recipe_lines(one, Absent(added=changed), depth + 1)):
        text = f"{'  ' * depth}- {line.text.lstrip()}" if index == 0 else line.text
        yield RecipeLine(text, line.changed, line.hint)


def _fits(items: list[Any] | dict[str, Any]) -> bool:
    return isinstance(items, list) and not any(isinstance(one, dict | list) for one in items) and len(_scalar(items)) <= _ONE_LINE


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        # YAML reads many plain words as something else (null, yes, 12): then quotes are needed.
        return value if _PLAIN.fullmatch(value) and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(one) for one in value) + "]"
    if isinstance(value, float):
        return yaml.safe_dump(value).split("\n")[0]  # Python's 1e-08 would be read as a word
    return json.dumps(value)
