"""How a process speaks to whoever watches it: lines for people, nothing but results and errors, or events as JSON lines.

The form is in the environment, so that the processes a command starts speak as it does. Results go to standard output;
everything on the way, events and errors, to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Literal, TextIO

import orjson

VARIABLE = "SNOW_OUTPUT"
Form = Literal["text", "quiet", "json"]


def form() -> Form:
    """What ``$SNOW_OUTPUT`` asks for; text where it says nothing that is known."""
    asked = os.environ.get(VARIABLE, "text")
    return asked if asked in ("quiet", "json") else "text"  # type: ignore[return-value] # narrowed by the tuple


def event(kind: str, values: dict[str, Any], stream: TextIO | None = None) -> None:
    """One event as a JSON line: ``event``, ``time`` (seconds since the epoch) and ``values``."""
    row = {"event": kind, "time": round(time.time(), 3)} | values
    print(orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS).decode(), file=stream or sys.stderr, flush=True)


def last_words(message: str, exit_code: int) -> None:
    """Why a process ends with this exit code: a line, or an event ``error``, on standard error; said where nothing else is, too."""
    if form() == "json":
        event("error", {"message": message, "exit_code": exit_code})
    else:
        print(f"snow: {message}", file=sys.stderr, flush=True)
