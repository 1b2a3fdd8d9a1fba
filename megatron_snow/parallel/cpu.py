"""The CPU backend: gloo, torch's own kernels, megatron's fusions off (each needs CUDA, TE or a compile of many seconds)."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel import cpu_device
from megatron_snow.parallel.layer_spec import torch_block_spec
from megatron_snow.parallel.optimizer_fixes import fix_resume, torch_optimizers
from megatron_snow.parallel.settings import Fp8Settings, Precision


class CpuBackend:
    """See ``backend.Backend``."""

    name = "cpu"
    communication = "gloo"
    device = torch.device("cpu")
    overlap = False

    def start(self, threads: int) -> None:
        torch.set_num_threads(threads)
        cpu_device.activate()

    def check_precision(self, precision: Precision, fp8: Fp8Settings) -> None:
        if precision == "fp8":
            raise SnowError("train.precision fp8 needs a GPU with Transformer Engine; this machine has no CUDA device: use bf16 or fp32")

    def overrides(self, precision: Precision, fp8: Fp8Settings) -> dict[str, Any]:
        off = (
            "gradient_accumulation_fusion", "masked_softmax_fusion", "bias_activation_fusion", "bias_dropout_fusion", "apply_rope_fusion",
            "persist_layer_norm", "cross_entropy_loss_fusion", "batch_p2p_sync", "batch_p2p_comm", "overlap_p2p_comm",
            "deallocate_pipeline_outputs",
        )  # fmt: skip
        return {"use_cpu_initialization": True, **dict.fromkeys(off, False)}

    def block_spec(self, config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
        return torch_block_spec(config, vp_stage)

    def seed(self, seed: int) -> None:
        model_parallel_cuda_manual_seed(seed)
        torch.manual_seed(seed)

    def optimizer(self, config: OptimizerConfig, chunks: list[Any]) -> MegatronOptimizer:
        optimizer = fix_resume(get_megatron_optimizer(config, chunks))
        for inner in torch_optimizers(optimizer):
            for group in inner.optimizer.param_groups:
                group["fused"] = True  # one pass over the memory; megatron-core has no setting for it
        return optimizer
