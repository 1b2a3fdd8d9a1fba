"""Saving and loading under a layout, through megatron-core's distributed checkpointing (``torch_dist`` format).

Optimizer state is stored per parameter in model space (``fully_reshardable``), so that it loads under any other
layout. The write goes straight through torch.distributed.checkpoint in this process: megatron's own writer forks
processes and starts a multiprocessing manager that imports the main module again (3 to 20 s at the first save).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingException
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.strategies.base import SaveShardedStrategy
from megatron.core.dist_checkpointing.strategies.torch import MCoreSavePlanner, _replace_state_dict_keys_with_sharded_keys, mcore_to_pyt_state_dict
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import Description, begin, prune, publish, read_description, refuse_other_model, saving_folder, verify
from megatron_snow.checkpoint.weights import has_optimizer
from megatron_snow.model.initialise import SHARDING
from megatron_snow.parallel.groups import Place, barrier, replica_group
from megatron_snow.parallel.optimizer_fixes import forget_momentum, prepare_state


class DirectSave(SaveShardedStrategy):  # type: ignore[misc]
    """Writes torch_dist in this process, one file a rank, synced to disk."""

    def __init__(self) -> None:
        super().__init__("torch_dist", 1)

    def save(self, sharded_state_dict: dict[str, Any], checkpoint_dir: str | Path) -> None:
        """Write the sharded tensors; every rank calls it."""
        by_name, _, _ = _replace_state_dict_keys_with_sharded_keys(sharded_state_dict, keep_only_main_replica=True)
        planner = MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False)
        save_tensors(mcore_to_pyt_state_dict(by_name), storage_writer=FileSystemWriter(checkpoint_dir), planner=planner)

    @property
    def can_handle_sharded_objects(self) -> bool:
        """Objects are stored as bytes beside the tensors."""
        return True


def _sharded_state(chunks: list[Any], optimizer: Any | None, loading: bool) -> dict[str, Any]:
    """Where each tensor of the model pieces, and of the optimizer unless it is None, lies in the whole."""
    naming = {**SHARDING, "distrib_optim_sharding_type": "fully_reshardable", "chained_optim_avoid_prefix": True, "dp_cp_group": replica_group()}
    names = ["model"] if len(chunks) == 1 else [f"model{index}" for index in range(len(chunks))]
    models = {name: _tensors_only(chunk.sharded_state_dict(metadata=naming)) for name, chunk in zip(names, chunks, strict=True)}
    if optimizer is None:
        return models
    prepare_state(optimizer)
    described = models if len(chunks) > 1 else models["model"]
    return {**models, "optimizer": optimizer.sharded_state_dict(described, is_loading=loading, metadata=naming)}


def _tensors_only(sharded: dict[str, Any]) -> dict[str, Any]:
    """Without the layers' ``_extra_state`` objects: torch unpickles those unguarded on load. Empty but for TE's fp8 scaling factors, which are found anew."""
    return {name: part for name, part in sharded.items() if not isinstance(part, ShardedObject)}


def save(training: Path, chunks: list[Any], optimizer: Any, description: Description, keep: int, place: Place) -> None:
    """Save model and optimizer as the checkpoint of ``description.step`` and publish it; every rank calls it.

    ``chunks`` are the bare GPTModels of this rank, without DDP and precision wrappers.
    """
    saving = saving_folder(training, description.step)
    if place.leader:
        begin(training, description.step)
    barrier()
    dist_checkpointing.save(_sharded_state(chunks, optimizer, loading=False), str(saving), DirectSave())
    barrier()
    if place.leader:
        publish(saving, training, description)
        prune(training, keep)
    barrier()


def load(folder: Path, chunks: list[Any], optimizer: Any, expected: Description, place: Place, momentum: bool = True) -> Description:
    """Load a checkpoint of any layout into this rank's model and optimizer; returns what it is.

    ``momentum`` False keeps the weights (fp32 main parameters included) and starts the optimizer afresh, as a checkpoint without
    optimizer state (made from a Hugging Face model) must; its main parameters are then the model's weights in the training's precision.

    Raises:
        SnowError: where the checkpoint is damaged, of another model than ``expected``, or lacks the momentum asked for.
    """
    description = read_description(folder)
    refuse_other_model(folder, description, expected.model, expected.vocabulary)
    verify(folder, part=place.rank, parts=place.world)
    whole = has_optimizer(folder)  # reads .metadata, which megatron unpickles unguarded below: refuses one that would run foreign code
    if momentum and not whole:
        raise SnowError(f"checkpoint {folder} holds weights and no optimizer state: start from it with hand_off: weights")
    try:
        state = dist_checkpointing.load(_sharded_state(chunks, optimizer if whole else None, loading=True), str(folder))
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
