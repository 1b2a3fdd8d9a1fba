"""megatron-core 0.16.1's distributed optimizer over torch's AdamW (no TE, no apex) cannot resume; here it can.

Three faults, all about ``step``, which torch keeps per parameter and the checkpoint per group: loading asserts that a
state exists before anything was stepped; it looks for 'step' among the checkpoint's tensors; and afterwards every
parameter shares ONE step tensor, which AdamW then increments once per parameter (step 57 instead of 5, silently).
The instances change class; megatron's class is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from megatron.core.optimizer import MegatronOptimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer


class ResumableDistributedOptimizer(DistributedOptimizer):  # type: ignore[misc]
    """DistributedOptimizer over torch.optim.AdamW whose state survives a checkpoint."""

    @torch.no_grad()
    def _set_main_param_and_optimizer_states(self, model_param: torch.nn.Parameter, tensors: dict[str, torch.Tensor]) -> None:
        group, order = self.model_param_group_index_map[model_param]
        main = self.optimizer.param_groups[group]["params"][order]
        main.copy_(tensors["param"])
        for name, state in self.optimizer.state[main].items():
            if name != "step":
                state.copy_(tensors[name])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for state in self.optimizer.state.values():
            state["step"] = state["step"].clone()


def torch_optimizers(optimizer: MegatronOptimizer) -> Iterator[Any]:
    """The megatron optimizers below ``optimizer`` that drive a torch one (it may be a chain, and a rank may own no parameter)."""
    for one in getattr(optimizer, "chained_optimizers", [optimizer]):
        if getattr(one, "optimizer", None) is not None:
            yield one


def fix_resume(optimizer: MegatronOptimizer) -> MegatronOptimizer:
    """Make the optimizer resumable where it drives torch's AdamW; TE's and apex's FusedAdam are left alone."""
    for one in torch_optimizers(optimizer):
        if type(one) is DistributedOptimizer and isinstance(one.optimizer, torch.optim.AdamW):
            one.__class__ = ResumableDistributedOptimizer
    return optimizer


def prepare_state(optimizer: MegatronOptimizer) -> None:
    """Give an optimizer that has not stepped the (zero) state that saving and loading describe."""
    for one in torch_optimizers(optimizer):
        if not one.optimizer.state:
            one.init_state_fn(one.optimizer, one.config)
            if isinstance(one.optimizer, torch.optim.AdamW):
                for state in one.optimizer.state.values():
                    state.setdefault("step", torch.zeros(()))


@torch.no_grad()
def forget_momentum(optimizer: MegatronOptimizer) -> None:
    """Zero the moments and the step count, keeping the fp32 main parameters: a fresh AdamW on trained weights."""
    for one in torch_optimizers(optimizer):
        for state in one.optimizer.state.values():
            for value in state.values():
                value.zero_()
    restart_step_count(optimizer)


@torch.no_grad()
def restart_step_count(optimizer: MegatronOptimizer) -> None:
    """Let AdamW count its steps from 0 again (its bias correction goes by them), keeping the moments."""
    for one in torch_optimizers(optimizer):
        for state in one.optimizer.state.values():
            if "step" in state:
                state["step"].zero_()
        for group in one.optimizer.param_groups:
            if "step" in group:  # TE's and apex's FusedAdam count here
                group["step"] = 0
