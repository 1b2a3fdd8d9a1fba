from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron_snow.model.settings import ModelSettings, padded_vocabulary, parameters
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.memory import MemoryEstimate, checkpoint_bytes, estimate_memory
from megatron_snow.training.settings import TrainSettings
from tests.training import ranks, resident, small

WIDE = ModelSettings(hidden=256, ffn=704, layers=4, heads=4, kv_heads=2)
DEEP = ModelSettings(hidden=256, ffn=704, layers=8, heads=4, kv_heads=4, tied=False)
RUNS: dict[str, tuple[ModelSettings, int, Layout, dict[str, Any], dict[str, Any]]] = {
    "bf16": (WIDE, 1, Layout(), {"micro_batch": 2, "sequence": 512}, {}),
    "fp32, recompute full": (DEEP, 1, Layout(), {"micro_batch": 4, "sequence": 256}, {"precision": "fp32", "recompute": "full"}),
    "selective, tensor 2": (WIDE, 2, Layout(tensor=2), {"micro_batch": 4, "sequence": 512}, {"recompute": "selective"}),
    "tensor 2, sequence parallel": (DEEP, 2, Layout(tensor=2, sequence_parallel=True), {"micro_batch": 4, "sequence": 256}, {}),
    "pipeline 2": (DEEP, 2, Layout(pipeline=2), {"micro_batch": 2, "sequence": 256}, {}),
    "pipeline 2, interleaved": (DEEP, 2, Layout(pipeline=2, virtual_pipeline=2), {"micro_batch": 2, "sequence": 256}, {}),
    "data 2": (DEEP, 2, Layout(data=2), {"micro_batch": 2, "sequence": 256}, {}),
    "context 2": (WIDE, 2, Layout(context=2), {"micro_batch": 4, "sequence": 512}, {}),
    "bf16, megatron's loss": (WIDE, 1, Layout(), {"micro_batch": 2, "sequence": 512}, {"loss": "megatron"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_estimate_is_within_15_percent_of_the_resident_set(name: str, tmp_path: Path) -> None:
    model, world, layout, phase, train = RUNS[name]
    settings = small.train(small.phase(tokens=10**6, batch=4, **phase), **({"precision": "bf16"} | train))
    run = small.spec(tmp_path, tmp_path, layout, model, train=settings, vocabulary=4096)
    measured = max(ranks.run(resident.peak_of_steps, world, run, 2))
    found = estimate_memory(
        model, 4096, run.settings, layout, settings.precision, settings.recompute, world, "cpu", "logits" if settings.loss == "megatron" else "fused"
    )
    tensors = found.total - found.runtime  # the baseline has the code already
    assert tensors == pytest.approx(measured, rel=0.15), f"{found}, measured {measured}"


def at(layout: Layout, processes: int, **changes: Any) -> MemoryEstimate:
    """The paper's model in its first phase."""
    given: dict[str, Any] = {"precision": "bf16", "recompute": "none", "head": "logits"} | changes
    return estimate_memory(ModelSettings(), 64_000, TrainSettings().phases["general"], layout, processes=processes, **given)


def test_model_states_are_megatrons_bytes_a_parameter() -> None:
    """18 bytes a parameter in mixed precision (Rajbhandari et al. 2020 with fp32 gradients: 2 + 4 + 12), the last 12 shared by replicas; 16 in fp32."""
    count = parameters(ModelSettings(), 64_000)
    one, eight, full = at(Layout(), 1), at(Layout(), 8), at(Layout(), 1, precision="fp32")
    assert one.parameters + one.gradients + one.optimizer == 18 * count
    assert eight.parameters + eight.gradients + eight.optimizer == (6 + 12 / 8) * count
    assert full.parameters + full.gradients + full.optimizer == 16 * count
    assert checkpoint_bytes(count, "bf16") == 14 * count


def test_splitting_takes_what_it_splits() -> None:
    one = at(Layout(), 1)
    assert at(Layout(context=2), 2).activations == one.activations / 2
    assert at(Layout(tensor=2, sequence_parallel=True), 2).activations == pytest.approx(one.activations / 2)
    assert one.activations / 2 < at(Layout(tensor=2), 2).activations < one.activations  # norms and residuals stay whole
    first = at(Layout(pipeline=4), 4)
    assert first.stage == 0 and first.activations == pytest.approx(one.activations, rel=0.05)  # four micro-batches of a quarter of the layers
    assert at(Layout(pipeline=4, virtual_pipeline=3), 4).activations == pytest.approx(first.activations * (1 + 3 / 12), rel=0.05)
    assert at(Layout(), 1, recompute="full").activations < one.activations / 10


def test_a_layer_keeps_what_korthikanti_counts_but_for_what_llama_does_otherwise() -> None:
    """Equation 2 without dropout masks and attention scores, 4 h of GPT's two MLP activations instead of 3 ffn: Transformer Engine's fused layers keep that."""
    model = ModelSettings(kv_heads=16)
    activations = at(Layout(), 1).activations / 8192
    h, f = model.hidden, model.ffn
    theirs = 2 * h + 2 * h + 6 * h + 2 * h + 2 * h + 2 * h  # norm inputs and outputs, query, key, value, the projection's input
    ours = theirs + 4 * h + 4 * model.heads  # rotated copies of query and key; flash attention's statistics
    assert activations == pytest.approx(model.layers * (ours + 2 * 3 * f) + 4 * h)


def test_the_fused_head_leaves_a_sixth_of_the_logits() -> None:
    whole, fused = at(Layout(), 1), at(Layout(), 1, head="fused")
    assert whole.working > 8192 * 64_000 * 6 and fused.working < whole.working / 6
    assert fused.activations == whole.activations and padded_vocabulary(ModelSettings(), 63_999) == 64_000
