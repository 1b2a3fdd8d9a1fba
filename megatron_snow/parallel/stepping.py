"""An optimizer step that leaves everything as it was where the gradient is not finite.

megatron-core looks for infinities only with a loss scaler (fp16); with bf16 and fp32 its ``step`` would spread a NaN
over all weights. This is its own sequence (``ChainedOptimizer.step``) with one question in the middle.
"""

from __future__ import annotations

import math

import torch
from megatron.core.optimizer import MegatronOptimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32


@torch.no_grad()
def step_if_finite(optimizer: MegatronOptimizer) -> float:
    """Step; returns the gradient norm before clipping, the same on every rank. Where it is not finite nothing was changed."""
    if optimizer.prepare_grads():
        return math.inf  # a loss scaler's verdict
    norm = float(optimizer.get_grad_norm())
    if not math.isfinite(norm):
        return norm
    for one in getattr(optimizer, "chained_optimizers", [optimizer]):
        if getattr(one, "is_stub_optimizer", False) or not (parameters := one.get_parameters()) or one.config.clip_grad <= 0:
            continue
        decoupled = one.config.use_precision_aware_optimizer_no_fp8_or_ds_fp8
        clip_grad_by_total_norm_fp32(parameters, max_norm=one.config.clip_grad, total_norm=norm, use_decoupled_grad=decoupled)
    optimizer.step_with_ready_grads()
    return norm
