"""Programs kept as text beside the tests: ``### name``, then the program."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def programs(file: str) -> dict[str, str]:
    """Name -> program of a file."""
    parts = (HERE / file).read_text().split("### ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def corpus(secret: str, port: int, abstract: str, marker: str) -> dict[str, str]:
    """Programs that try to get out, to stay, to hang or to break what comes after them. Each prints ESCAPED where it got what it should not have.

    ``secret``: a file of the caller; ``port``, ``abstract``: sockets it listens on; ``marker``: the name of processes that try to stay.
    """
    values = {"SECRET": secret, "PORT": str(port), "ABSTRACT": abstract, "MARKER": marker}
    found = programs("escapes.txt")
    for name, value in values.items():
        found = {key: text.replace(f"@{name}@", value) for key, text in found.items()}
    return found
