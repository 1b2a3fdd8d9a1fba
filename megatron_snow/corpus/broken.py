"""What of a source's rows cannot be used: yielded in a row's place, never raised, since one bad row among billions must cost one row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Broken:
    """One row, or the rest of a file, that cannot be used, and why."""

    reason: str
    detail: str
