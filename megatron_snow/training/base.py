"""Where a training starts that does not start from fresh weights: a Hugging Face model, or a checkpoint of another training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import model_validator

from megatron_snow.artifacts.settings import Settings


class BaseSettings(Settings):
    """What the first phase of the recipe starts from: give one of the two."""

    hugging_face: str | None = None
    """Folder, hub name or ``fixture:NAME`` of a Llama or Qwen2/2.5 model with safetensors weights. ``snow base`` makes a checkpoint of it."""
    checkpoint: Path | None = None
    """A training folder of megatron_snow, whose newest checkpoint counts, or one ``step-*`` folder in it."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, given: Any) -> Any:
        if isinstance(given, dict) and sum(given.get(name) is not None for name in ("hugging_face", "checkpoint")) != 1:
            raise ValueError("give hugging_face (a model folder or hub name) or checkpoint (a training folder or step-* folder), one of the two")
        return given
