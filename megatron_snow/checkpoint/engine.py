"""Saving and loading under a layout, in megatron-core's distributed checkpoint format (``torch_dist``).

Optimizer state is stored per parameter in model space (``fully_reshardable``), so that it loads under any other
layout. Loading is megatron-core's own; ``saver`` writes what it reads.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingException
from megatron.core.dist_checkpointing.mapping import ShardedObject
from torch.distributed.checkpoint.api import CheckpointException

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata
from megatron_snow.checkpoint.saver import Saver
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.shards import naming
from megatron_snow.checkpoint.store import Description, read_description, refuse_other_model, verify
from megatron_snow.checkpoint.weights import has_optimizer
from megatron_snow.checkpoint.writing import refuse_newer
from megatron_snow.parallel.background import SideChannel
from megatron_snow.parallel.groups import Place
from megatron_snow.parallel.optimizer_fixes import forget_momentum, prepare_state

_TIMEOUT = 1800  # seconds; train.timeout's default, for a save outside a training


def save(training: Path, chunks: list[Any], optimizer: Any, description: Description, keep: int, place: Place) -> None:
    """Save model and optimizer as the checkpoint of ``description.step`` and publish it, at once; every rank calls it.

    ``chunks`` are the bare GPTModels of this rank, without DDP and precision wrappers. A training uses a ``Saver``.
    """
    Saver(training, chunks, optimizer, CheckpointSettings(keep=keep, asynchronous=False), place, _TIMEOUT).begin(description)


def _wanted(chunks: list[Any], optimizer: Any | None) -> dict[str, Any]:
    """What to load: megatron's description of this rank's part of the model, and of the optimizer unless it is None."""
    names = ["model"] if len(chunks) == 1 else [f"model{index}" for index in range(len(chunks))]
    models = {name: _tensors_only(chunk.sharded_state_dict(metadata=naming())) for name, chunk in zip(names, chunks, strict=True)}
    if optimizer is None:
        return models
    prepare_state(optimizer)
    described = models if len(chunks) > 1 else models["model"]
    return {**models, "optimizer": optimizer.sharded_state_dict(described, is_loading=True, metadata=naming())}


def _tensors_only(sharded: dict[str, Any]) -> dict[str, Any]:
    """Without the layers' ``_extra_state`` objects: torch unpickles those unguarded on load. Empty but for TE's fp8 scaling factors, which are found anew."""
    return {name: part for name, part in sharded.items() if not isinstance(part, ShardedObject)}


def load(folder: Path, chunks: list[Any], optimizer: Any, expected: Description, place: Place, momentum: bool = True) -> Description:
    """Load a checkpoint of any layout into this rank's model and optimizer; returns what it is.

    ``momentum`` False keeps the weights (fp32 main parameters included) and starts the optimizer afresh, as a checkpoint without
    optimizer state (made from a Hugging Face model) must; its main parameters are then the model's weights in the training's precision.

    Raises:
        SnowError: where the checkpoint is damaged, of another model than ``expected``, or lacks the momentum asked for.
    """
    description = read_description(folder)
    refuse_other_model(folder, description, expected.model, expected.vocabulary)
    _refuse_damaged(folder, place)
    whole = has_optimizer(folder)
    if momentum and not whole:
        raise SnowError(f"checkpoint {folder} holds weights and no optimizer state: start from it with hand_off: weights")
    try:
        state = dist_checkpointing.load(_wanted(chunks, optimizer if whole else None), str(folder))
    except (CheckpointingException, CheckpointException, pickle.UnpicklingError, KeyError, EOFError) as error:
        raise SnowError(f"checkpoint {folder} cannot be loaded ({error}): use another one") from error
    for index, chunk in enumerate(chunks):
        stored = state["model" if len(chunks) == 1 else f"model{index}"]
        chunk.load_state_dict({**dict.fromkeys(name for name in chunk.state_dict() if name.endswith("_extra_state")), **stored})
    if not whole:
        optimizer.reload_model_params()
        return description
    optimizer.load_state_dict(state["optimizer"])
    if not momentum:
        forget_momentum(optimizer)
    return description


def _refuse_damaged(folder: Path, place: Place) -> None:
    """Check all files, each rank its share; what one finds, all raise."""
    found = b""
    try:
        verify(folder, part=place.rank, parts=place.world)
        refuse_newer(folder)
        read_metadata(folder)  # megatron unpickles this file unguarded below; this refuses one that would run foreign code
    except SnowError as error:
        found = str(error).encode()
    if complaint := SideChannel(_TIMEOUT).first(found):
        raise SnowError(complaint.decode())
