from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.backend import assert_sound
from megatron_snow.parallel.settings import Fp8Settings, Layout
from tests.training import ranks, small


def config(**changes: Any) -> Any:
    fields = {"virtual_pipeline_model_parallel_size": None, "pipeline_model_parallel_size": 2, "batch_p2p_comm": False, "overlap_p2p_comm": False}
    return SimpleNamespace(**(fields | {"deallocate_pipeline_outputs": False} | changes))


def test_configurations_that_train_wrongly_are_stopped() -> None:
    assert_sound(config(virtual_pipeline_model_parallel_size=2))
    assert_sound(config(batch_p2p_comm=True))
    assert_sound(config(overlap_p2p_comm=True))
    with pytest.raises(AssertionError, match="interleaved pipeline=2"):
        assert_sound(config(virtual_pipeline_model_parallel_size=2, batch_p2p_comm=True))
    with pytest.raises(AssertionError, match="deallocate_pipeline_outputs"):
        assert_sound(config(overlap_p2p_comm=True, deallocate_pipeline_outputs=True))


def fp8_refusals(rank: int, world: int, rendezvous: str) -> list[str]:
    from megatron_snow.parallel.cpu import CpuBackend
    from megatron_snow.parallel.cuda import CudaBackend

    said = []
    for backend in (CpuBackend(), CudaBackend(0)):
        backend.check_precision("bf16", Fp8Settings())
        try:
            backend.check_precision("fp8", Fp8Settings())
        except SnowError as error:
            said.append(str(error))
    return said


def test_fp8_without_transformer_engine_is_refused() -> None:
    said = ranks.run(fp8_refusals, 1)[0]
    assert "has no CUDA device: use bf16 or fp32" in said[0]
    assert "needs Transformer Engine, which is not installed" in said[1]


def cuda_config(rank: int, world: int, rendezvous: str) -> tuple[bool, bool, bool]:
    from megatron_snow.model.build import transformer_config
    from megatron_snow.parallel.cuda import CudaBackend

    config = transformer_config(small.MODEL, Layout(pipeline=2, virtual_pipeline=2), CudaBackend(0), "bf16", "none")
    return config.bf16, config.use_cpu_initialization, config.batch_p2p_comm


def test_the_cuda_backends_settings_are_known_to_megatron() -> None:
    assert ranks.run(cuda_config, 1) == [(True, False, False)]
