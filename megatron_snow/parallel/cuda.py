"""The CUDA backend: nccl; Transformer Engine's layers where it is installed, the plain torch spec of the CPU where not.

It holds only what must differ from the CPU. What was seen on which card is in LOG.md.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.layer_spec import torch_block_spec
from megatron_snow.parallel.optimizer_fixes import fix_resume
from megatron_snow.parallel.settings import FP8_CAPABILITY, Fp8Settings, Precision


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
        # one hardware queue keeps a collective ahead of the products launched after it: tensor parallelism overlaps only so (megatron-core warns)
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        torch.cuda.set_device(self.device)

    def check_precision(self, precision: Precision, fp8: Fp8Settings) -> None:
        if precision != "fp8":
            return
        if not self.transformer_engine:
            raise SnowError(
                "train.precision fp8 needs Transformer Engine, which is not installed (megatron-core would then train in bf16, silently): "
                "install it, or use bf16"
            )
        found, needed = torch.cuda.get_device_capability(self.device), FP8_CAPABILITY[fp8.recipe]
        if found < needed:
            name = torch.cuda.get_device_name(self.device)
            raise SnowError(
                f"fp8.recipe {fp8.recipe} needs compute capability {needed[0]}.{needed[1]}, {name} has {found[0]}.{found[1]}: use bf16, or another recipe"
            )

    def overrides(self, precision: Precision, fp8: Fp8Settings) -> dict[str, Any]:
        return {
            "use_cpu_initialization": False, "masked_softmax_fusion": False, "persist_layer_norm": False,
            "gradient_accumulation_fusion": False,  # of the output layer it would need apex; the layers get it in te_layer_spec
            "apply_rope_fusion": self.transformer_engine, "bias_activation_fusion": True, "bias_dropout_fusion": True,
            "batch_p2p_comm": False, "overlap_p2p_comm": False, "deallocate_pipeline_outputs": False,
            **(fp8_overrides(fp8) if precision == "fp8" else {}),
        }  # fmt: skip

    def block_spec(self, config: TransformerConfig, vp_stage: int | None) -> TransformerBlockSubmodules:
        if not self.transformer_engine:
            return torch_block_spec(config, vp_stage)
        from megatron_snow.parallel.te_layer_spec import te_block_spec

        return te_block_spec(config, vp_stage)

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)
        model_parallel_cuda_manual_seed(seed)

    def optimizer(self, config: OptimizerConfig, chunks: list[Any]) -> MegatronOptimizer:
        return fix_resume(get_megatron_optimizer(config, chunks))


def fp8_overrides(fp8: Fp8Settings) -> dict[str, Any]:
    """Megatron's names for the FP8 settings."""
    return {
        "fp8": fp8.format, "fp8_recipe": fp8.recipe, "fp8_param": fp8.parameters,
        "fp8_amax_history_len": fp8.amax_history, "fp8_amax_compute_algo": "max",
        "first_last_layers_bf16": fp8.bf16_first + fp8.bf16_last > 0,
        "num_layers_at_start_in_bf16": fp8.bf16_first, "num_layers_at_end_in_bf16": fp8.bf16_last,
    }  # fmt: skip
