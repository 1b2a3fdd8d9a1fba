"""The CUDA backend: nccl; Transformer Engine's layers where it is installed, the plain torch spec of the CPU where not.

This module has not been run: no GPU was at hand when it was written. It holds only what must differ from the CPU.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.layer_spec import torch_block_spec
from megatron_snow.parallel.optimizer_fixes import fix_resume
from megatron_snow.parallel.settings import Precision


class CudaBackend:
    """See ``backend.Backend``."""

    name = "cuda"
    communication = "nccl"
    overlap = True

    def __init__(self, local_rank: int) -> None:
        self.device = torch.device("cuda", local_rank)
        self.transformer_engine = importlib.util.find_spec("transformer_engine") is not None

    def start(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.cuda.set_device(self.device)

    def check_precision(self, precision: Precision) -> None:
        if precision == "fp8" and not self.transformer_engine:
            raise SnowError(
                "train.precision fp8 needs Transformer Engine, which is not installed (megatron-core would then train in bf16, silently): "
                "install it, or use bf16"
            )

    def overrides(self, precision: Precision) -> dict[str, Any]:
        fp8 = {"fp8": "hybrid", "fp8_recipe": "delayed"} if precision == "fp8" else {}
        return {
            "use_cpu_initialization": False, "gradient_accumulation_fusion": False, "masked_softmax_fusion": False,
            "apply_rope_fusion": self.transformer_engine, "persist_layer_norm": False,
            "batch_p2p_comm": False, "overlap_p2p_comm": False, "deallocate_pipeline_outputs": False, **fp8,
        }  # fmt: skip

    def block_spec(self, config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
        if not self.transformer_engine:
            return torch_block_spec(config, vp_stage)
        from megatron.core.extensions.transformer_engine import TENorm

        layer = get_gpt_layer_with_transformer_engine_spec(qk_layernorm=config.qk_layernorm)
        return TransformerBlockSubmodules(layer_specs=[layer] * get_num_layers_to_build(config, vp_stage=vp_stage), layer_norm=TENorm)

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)
        model_parallel_cuda_manual_seed(seed)

    def optimizer(self, config: OptimizerConfig, chunks: list[Any]) -> MegatronOptimizer:
        return fix_resume(get_megatron_optimizer(config, chunks))
