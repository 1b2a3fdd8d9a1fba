"""Repositories that must not be in any tier: their owners asked, or a licence was misread.

The list is a text file of repository names as the corpus has them (``owner/name``) or of their addresses (``https://github.com/owner/name``),
one a line; ``#`` begins a comment. Letter case does not count: GitHub's names do not tell it apart, and a name that is missed for it is a
repository trained on against its owner's word. The corpus drops their files before anything reads their text, so that the tiers are what
they would be had the sources never held them.
"""

from __future__ import annotations

import re
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.git import ADDRESS

REASON = "taken down"
_LONGEST = 1_000  # characters of a name (ours: a line above that is no name, the file is something else)
_HOST = re.compile(r"(?:www\.)?git(?:hub|lab)\.com/")  # an address whose scheme was left out
_BESIDE = re.compile(r"[?]|/(?:-|tree|blob|issues|pull|wiki|releases)(?:/|$)")  # where an address goes on to a page of the repository


def repository_key(name: str) -> str:
    """What two names or addresses of one repository share: ``https://github.com/Owner/Name.git`` is ``owner/name``.

    It is a part of the name in small letters, ASCII ones only, so that a text that names the repository holds it.
    """
    small = name.strip().encode(errors="surrogatepass").lower().decode(errors="surrogatepass")
    if found := ADDRESS.match(small) or _HOST.match(small):
        small = _BESIDE.split(small[found.end() :], maxsplit=1)[0]
    return small.strip("/").removesuffix(".git")


def read_take_down(path: Path | None) -> frozenset[str]:
    """The repositories of a list, as ``repository_key`` has them, none without one.

    Raises SnowError where the file is missing, unreadable, empty or no list of names.
    """
    if path is None:
        return frozenset()
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")  # editors of Windows put a byte-order mark before the first name
    except (OSError, UnicodeDecodeError) as error:
        raise SnowError(
            f"the take-down list {path} cannot be read: {getattr(error, 'strerror', None) or error}; give a text file of repository names"
        ) from error
    names = {line.partition("#")[0].strip() for line in text.splitlines()} - {""}
    if wrong := [name for name in sorted(names) if "\0" in name or len(name) > _LONGEST or not repository_key(name)]:
        raise SnowError(f"the take-down list {path} holds {wrong[0][:60]!r}, which is no repository's name; give a text file of names, one a line")
    if not names:
        raise SnowError(f"the take-down list {path} names no repository; write one a line, or take corpus.take_down out of the recipe")
    return frozenset(map(repository_key, names))


def take_down_fingerprint(path: Path | None) -> str:
    """Of the names: order, comments, spelling and the file's place do not matter."""
    return digest(["by key", *sorted(read_take_down(path))])  # the mark: a corpus made when letter case still counted is made again
