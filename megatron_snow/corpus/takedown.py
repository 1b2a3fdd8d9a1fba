"""Repositories that must not be in any tier: their owners asked, or a licence was misread.

The list is a text file of repository names as the corpus has them (``owner/name``), one a line; ``#`` begins a comment. The
corpus drops their files before anything reads their text, so that the tiers are what they would be had the sources never held them.
"""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest

REASON = "taken down"
_LONGEST = 1_000  # characters of a name (ours: a line above that is no name, the file is something else)


def read_take_down(path: Path | None) -> frozenset[str]:
    """The repositories of a list, none without one. Raises SnowError where the file is missing, unreadable, empty or no list of names."""
    if path is None:
        return frozenset()
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SnowError(
            f"the take-down list {path} cannot be read: {getattr(error, 'strerror', None) or error}; give a text file of repository names"
        ) from error
    names = {line.partition("#")[0].strip() for line in text.splitlines()} - {""}
    if wrong := [name for name in sorted(names) if "\0" in name or len(name) > _LONGEST]:
        raise SnowError(f"the take-down list {path} holds {wrong[0][:60]!r}, which is no repository's name; give a text file of names, one a line")
    if not names:
        raise SnowError(f"the take-down list {path} names no repository; write one a line, or take corpus.take_down out of the recipe")
    return frozenset(names)


def take_down_fingerprint(path: Path | None) -> str:
    """Of the names: order, comments and the file's place do not matter."""
    return digest(sorted(read_take_down(path)))
