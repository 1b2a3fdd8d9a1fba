from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.model.settings import ModelSettings, flops_per_token
from megatron_snow.parallel.settings import Layout
from megatron_snow.recipe.drive import open_road
from megatron_snow.recipe.load import load_recipe
from megatron_snow.recipe.plan import plan_values, render_plan
from megatron_snow.recipe.plan_layouts import SHOWN, evaluate, propose
from megatron_snow.recipe.step_time import Cluster, step_time
from megatron_snow.training.settings import PhaseSettings, TrainSettings

EXAMPLES = Path(__file__).parents[2] / "examples"
PHASE = TrainSettings().phases["general"]
MODEL = ModelSettings()
LARGE = ModelSettings(hidden=5120, ffn=13824, layers=40, heads=40, kv_heads=40, tied=False)


def seconds(layout: Layout, gpus: int = 64, recompute: Any = "none", phase: PhaseSettings = PHASE) -> Any:
    return step_time(MODEL, 64_000, phase, layout, recompute, Cluster(gpus, mfu=0.5))


def test_an_unsplit_model_computes_at_the_stated_mfu() -> None:
    alone = seconds(Layout(), 1)
    assert alone.total == alone.compute == pytest.approx(4_194_304 * flops_per_token(MODEL, 64_000, 8192) / (0.5 * 989e12))
    assert seconds(Layout(), 64).compute == pytest.approx(alone.compute / 64)


def test_a_benchmark_that_the_corpus_is_not_searched_for_is_said(tmp_path: Path) -> None:
    warning = "Warning: evaluate reports on mbpp+, which the corpus is not searched for; add to corpus.decontamination.benchmarks: [mbpp+]"
    tiny = Path(__file__).parents[1] / "road/tiny.yaml"
    for overrides, unsought in (
        ([], []),
        (["evaluate.benchmarks=[humaneval, mbpp+]"], ["mbpp+"]),
        (["evaluate.benchmarks=[humaneval, mbpp+]", "corpus.decontamination.benchmarks=[mbpp+]"], []),
        (["corpus.decontamination.humaneval=''"], ["humaneval"]),
    ):
        recipe, road = open_road(tiny, overrides, tmp_path)
        assert plan_values(recipe, road)["unsought"] == unsought
        assert ("Warning" in render_plan(recipe, road)) == bool(unsought) and (unsought != ["mbpp+"] or warning in render_plan(recipe, road))


def test_no_shipped_recipe_reports_on_what_it_does_not_look_for() -> None:
    shipped = sorted(EXAMPLES.glob("*/recipe.yaml"))
    assert shipped
    for path in shipped:
        recipe = load_recipe(path, [])
        assert recipe.corpus.decontamination.unsought(recipe.evaluate.benchmarks) == [], path


def test_what_splitting_costs_by_hand() -> None:
    """64 GPUs, 512 sequences of 8192 tokens; each line is the module's formula with the numbers put in."""
    pipeline = seconds(Layout(pipeline=4))  # 16 replicas, 32 micro-batches each
    head = 64_000 * 2048 / (64_000 * 2048 + 24 * (4 * 2048**2 + 3 * 2048 * 5632) + 24 * 2 * 2048 * 4096)
    assert pipeline.imbalance == pytest.approx(pipeline.compute * head * 3)
    assert pipeline.bubble == pytest.approx((pipeline.compute + pipeline.imbalance) * 3 / 32)
    assert seconds(Layout(pipeline=4, virtual_pipeline=3)).bubble == pytest.approx(pipeline.bubble / 3)
    tensor = seconds(Layout(tensor=2, sequence_parallel=True))  # 32 replicas, 16 micro-batches of 8192 x 2048 16-bit numbers
    assert tensor.tensor == pytest.approx(24 * 16 * 4 * (8192 * 2048 * 2) / 450e9)
    assert seconds(Layout(tensor=2), recompute="full").tensor == pytest.approx(tensor.tensor * 6 / 4)
    context = seconds(Layout(context=2))
    assert context.context == pytest.approx(24 * 16 * 3 * 0.5 * (8192 / 2 * 2 * 2048 * 2) / 450e9)
    assert seconds(Layout()).data == pytest.approx(0.5 * 63 / 64 * 1_364_297_728 * 6 / 50e9)
    full = seconds(Layout(), recompute="full")
    assert 0.25 < full.recompute / full.compute < 1 / 3 < full.total / seconds(Layout()).total - 0.95


@pytest.mark.parametrize(("model", "gpus"), [(MODEL, 1), (MODEL, 64), (LARGE, 512), (LARGE, 24)])
def test_what_is_proposed_fits_runs_and_is_fast(model: ModelSettings, gpus: int) -> None:
    cluster = Cluster(gpus)
    phase = PHASE.model_copy(update={"batch": 480 if gpus == 24 else 512})
    found = propose(model, 64_000, phase, "bf16", cluster)
    assert 1 <= len(found) <= SHOWN
    for one in found:
        assert one.memory.total <= 0.92 * 80e9
        sized = phase.model_copy(update={"micro_batch": one.micro_batch})
        assert evaluate(model, 64_000, sized, one.layout, "bf16", one.recompute, cluster) == one
    assert found[0].step.total <= 1.03 * min(one.step.total for one in found)
    assert len({(one.layout.tensor, one.layout.pipeline, one.layout.context) for one in found}) == len(found)


def test_thirteen_billion_on_one_gpu_fit_nowhere_and_the_plan_says_so(tmp_path: Path) -> None:
    recipe = EXAMPLES / "snowcoder_13b" / "recipe.yaml"
    text = render_plan(*open_road(recipe, ["layout.tensor=1", "layout.sequence_parallel=false"], tmp_path), Cluster(1))
    assert "DOES NOT FIT" in text and "no layout fits: take more GPUs" in text and "74.5 GiB" not in text


def test_a_plan_for_gpus_has_days_and_layouts_and_for_none_has_not(tmp_path: Path) -> None:
    opened = open_road(EXAMPLES / "snowcoder_7b" / "recipe.yaml", [], tmp_path)
    text = render_plan(*opened, Cluster(256))
    assert "Memory a GPU" in text and "GPU hours" in text and "Layouts for general on 256 GPUs" in text and "tensor 2 x data 128" in text
    assert "H100 hours" in render_plan(*opened) and "Layouts for" not in render_plan(*opened)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gpus": 0}, "--gpus 0: give 1 at least"),
        ({"gpus": 8, "mfu": 40}, "--mfu 40 is a share of the GPU's peak between 0 and 1"),
        ({"gpus": 8, "memory": 80}, "--gpu-memory 80 bytes is no GPU: write it like 80GB"),
        ({"gpus": 8, "flops": 0}, "--gpu-flops 0"),
    ],
)
def test_a_cluster_that_is_none_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SnowError, match=says):
        Cluster(**given)


def test_a_plan_for_programs_has_the_memory_and_hours_of_the_text(tmp_path: Path) -> None:
    opened = open_road(EXAMPLES / "snowcoder_7b" / "recipe.yaml", [], tmp_path)
    cluster = Cluster(256)
    text, values = render_plan(*opened, cluster), plan_values(*opened, cluster)
    memory, general = values["memory"], values["phases"]["general"]
    assert f"= {format_bytes(memory['total'])} of {format_bytes(memory['usable'])}" in text and memory["processes"] == 256
    parts = memory["parameters"] + memory["gradients"] + memory["optimizer"] + memory["activations"] + memory["working"] + memory["runtime"]
    assert memory["total"] == pytest.approx(parts, abs=6)  # each is rounded to a byte
    (line,) = (line for line in text.splitlines() if line.startswith("  general "))
    assert f"{general['step_seconds']:.3g} s" in line and f"{general['gpu_hours']:,.0f}" in line and f"{general['hours'] / 24:.3g}" in line
    assert general["gpu_hours"] == pytest.approx(256 * general["hours"])
    text, values = render_plan(*opened), plan_values(*opened)
    assert f"= {format_bytes(values['memory']['total'])}\n" in text and values["memory"]["usable"] is None
    (line,) = (line for line in text.splitlines() if line.startswith("  general "))
    assert f"{values['phases']['general']['h100_hours']:,.3g}" in line


def test_a_plan_says_what_the_done_arrows_counted(tmp_path: Path) -> None:
    recipe, road = open_road(EXAMPLES / "quickstart" / "recipe.yaml", [], tmp_path)
    building = road.building(road.stages["corpus"]).open()
    building.counts = {"documents_in": 9, "documents": 1_234_000, "languages": 3}
    building.publish()
    line = render_plan(recipe, road).splitlines()[3]
    assert line.startswith("  corpus") and line.endswith(": 1.234M documents") and " done " in line
    assert plan_values(recipe, road)["arrows"]["corpus"]["counts"]["documents"] == 1_234_000


def test_gpus_that_the_recipes_layout_does_not_fill_are_refused(tmp_path: Path) -> None:
    opened = open_road(EXAMPLES / "snowcoder_7b" / "recipe.yaml", [], tmp_path)
    with pytest.raises(SnowError, match="3 processes cannot hold the layout tensor 2"):
        render_plan(*opened, Cluster(3))


def test_selected_files_are_documents_of_their_repository_or_stay_single() -> None:
    path = EXAMPLES / "snowcoder_1b3" / "recipe.yaml"
    assert load_recipe(path).tokenize.of("high_quality").grouping == "language_repository"
    single = load_recipe(path, ["tokenize={tiers: {high_quality: {grouping: file}, synthetic: {grouping: file, repository_metadata: 0}}}"])
    assert single.tokenize.of("high_quality").grouping == single.tokenize.of("synthetic").grouping == "file"


def test_the_readmes_settings_of_a_phase_load() -> None:
    recipe = load_recipe(
        EXAMPLES / "snowcoder_1b3" / "recipe.yaml",
        [
            "train.phases.enhanced.replay={high_quality: 0.84}",
            "train.phases.general.batch_ramp={start: 64, increment: 64, over: 10B}",
            "train.phases.continued.hand_off=moments",
            "train.phases.general.learning_rate={decay: wsd, cooldown: 50B}",
        ],
    )
    phases = recipe.train.phases
    assert phases["enhanced"].share("high_quality") == pytest.approx(0.84) and phases["general"].batches == list(range(64, 513, 64))
    with pytest.raises(SnowError, match=r"train\.phases\.enhanced\.replay: no tier is called 'gold'"):
        load_recipe(EXAMPLES / "snowcoder_1b3" / "recipe.yaml", ["train.phases.enhanced.replay={gold: 0.5}"])
