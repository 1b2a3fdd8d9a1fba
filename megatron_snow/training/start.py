"""What a phase starts from, checked before any process exists: the last checkpoint of the phase before, or of the recipe's base."""

from __future__ import annotations

from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import find_checkpoint, read_description, refuse_other_model
from megatron_snow.model.settings import padded_vocabulary
from megatron_snow.training.spec import RunSpec


def starting_checkpoint(spec: RunSpec) -> Path | None:
    """The checkpoint the phase starts from; None where it starts from fresh weights.

    Raises:
        SnowError: where there is none, or it cannot be this phase's start: another model, or no momentum to hand over.
    """
    if spec.previous is None:
        return None
    folder = find_checkpoint(spec.previous)
    if folder is None:
        raise SnowError(f"the phase before left no whole checkpoint in {spec.previous}: train it first")
    refuse_other_model(folder, read_description(folder), spec.model, padded_vocabulary(spec.model, spec.vocabulary))
    if spec.settings.hand_off != "weights":
        from megatron_snow.checkpoint.weights import has_optimizer  # torch, which a process that only starts ranks does without

        if not has_optimizer(folder):
            raise SnowError(
                f"train.phases.{spec.phase}.hand_off {spec.settings.hand_off} asks for the optimizer's moments, and {folder} holds weights alone: "
                "start with hand_off: weights"
            )
    return folder
