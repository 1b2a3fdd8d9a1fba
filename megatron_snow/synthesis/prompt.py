"""Prompts as text files: turns of a conversation, with places for the seed.

A line ``=== system``, ``=== user`` or ``=== assistant`` starts a turn; the last turn is the user's. ``<<seed>>``,
``<<language>>`` (Linguist's name) and ``<<fence>>`` (the word after a code fence) are filled in. The part before the
seed is the same in every request, so that servers with a prefix cache read it once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypedDict

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis.syntax import LANGUAGES

_TURN = re.compile(r"^=== (system|user|assistant)[ \t]*$", re.MULTILINE)
_PLACE = re.compile(r"<<(\w+)>>")
_TELLING = 6  # words (ours: fewer stand in any text)
_PLACES = frozenset({"seed", "language", "fence"})


class Message(TypedDict):
    """One turn, as the API takes it."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A prompt file, read."""

    name: str
    turns: tuple[tuple[str, str], ...]
    sha256: str

    def messages(self, language: str, seed: str) -> list[Message]:
        """The conversation for one seed. The seed's own ``<<...>>`` stay as they are."""
        values = {"seed": seed, "language": LANGUAGES[language].spoken, "fence": LANGUAGES[language].fence}
        return [Message(role=role, content=_PLACE.sub(lambda found: values[found[1]], text)) for role, text in self.turns]

    def own_words(self) -> tuple[str, ...]:
        """What no answer repeats, as ``plain`` writes it: the last turn's sentences, and the problems of the examples."""
        told = [self.turns[-1][1], *(text.partition("```")[0].removeprefix("Problem:") for role, text in self.turns if role == "assistant")]
        pieces = [plain(piece) for text in told for line in text.splitlines() for piece in _PLACE.split(line)[::2]]
        return tuple(dict.fromkeys(piece for piece in pieces if piece.count(" ") + 1 >= _TELLING))


def plain(text: str) -> str:
    """In lower case, with single spaces."""
    return " ".join(text.lower().split())


def packaged() -> list[str]:
    """The names of the prompts that come with the package."""
    return sorted(
        entry.name.removesuffix(".txt") for entry in resources.files("megatron_snow.synthesis").joinpath("prompts").iterdir() if entry.name.endswith(".txt")
    )


def load_prompt(reference: str) -> Prompt:
    """The prompt of a packaged name or of a path. Raises SnowError where there is none, or where it is not a prompt."""
    if reference in packaged():
        data = resources.files("megatron_snow.synthesis").joinpath("prompts", f"{reference}.txt").read_bytes()
    else:
        try:
            data = Path(reference).read_bytes()
        except OSError as error:
            raise SnowError(f"no prompt {reference!r} ({error.strerror}); name a text file, or one of: {', '.join(packaged())}") from error
    return _parse(reference, data)


def _parse(name: str, data: bytes) -> Prompt:
    try:
        pieces = _TURN.split(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SnowError(f"prompt {name!r} is not UTF-8 text ({error}); save it as UTF-8") from error
    turns = tuple((role, text.strip("\n")) for role, text in zip(pieces[1::2], pieces[2::2], strict=True))
    if pieces[0].strip() or not turns or turns[-1][0] != "user":
        raise SnowError(f"prompt {name!r} must start with a line '=== system' or '=== user' and its last turn must be '=== user'")
    used = set(_PLACE.findall(turns[-1][1]))
    if "seed" not in used:
        raise SnowError(f"prompt {name!r} has no <<seed>> in its last turn; put it where the seed's lines shall stand")
    if unknown := {place for _, text in turns for place in _PLACE.findall(text)} - _PLACES:
        raise SnowError(f"prompt {name!r} has <<{min(unknown)}>>, which nothing fills; there are: {', '.join(f'<<{p}>>' for p in sorted(_PLACES))}")
    return Prompt(name, turns, hashlib.sha256(data).hexdigest())
