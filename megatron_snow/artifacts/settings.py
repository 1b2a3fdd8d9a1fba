"""The base of every package's settings class.

Settings are frozen, know no unknown key, and are written by users in YAML; the recipe composes them and turns
pydantic's complaints into messages with the field's path and the nearest known name (``recipe.load``).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

RUNTIME = "runtime"
"""Marks a field that changes how work is done, not what comes out: ``workers: Annotated[int, RUNTIME] = 2``."""


class Settings(BaseModel):
    """Frozen, strict about unknown keys, defaults validated too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, JSON-able: everything but the fields marked ``RUNTIME``."""
        dumped = self.model_dump(mode="json")
        return {name: _identity(getattr(self, name), dumped[name]) for name, field in type(self).model_fields.items() if RUNTIME not in field.metadata}


def _identity(value: Any, dumped: Any) -> Any:
    """``dumped`` without the runtime fields of the settings nested in ``value``."""
    if isinstance(value, Settings):
        return value.identity()
    if isinstance(value, dict):
        return {key: _identity(item, dumped[key]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item, one) for item, one in zip(value, dumped, strict=True)]
    return dumped


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of ``canonical_json(value)``, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
