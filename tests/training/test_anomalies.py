"""Losses that jump and gradients that are not finite: the same decision on every rank, after every resume."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.store import History, latest, read_description, step_folder
from megatron_snow.checkpoint.weights import read_weights
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.anomalies import AnomalySettings, Watch
from megatron_snow.training.records import METRICS, read_rows
from megatron_snow.training.samples import phase_samples
from megatron_snow.training.settings import LearningRate
from tests.training import ranks, small, spikes
from tests.training.spikes import BAD, PHASE, STEPS, settings
from tests.training.test_loop import without_times

PAIR = Layout(data=2)


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikes.write_corrupted(tmp_path_factory.mktemp("corrupted") / "tokens")


def train(tokens: Path, work: Path, train_settings: Any, layout: Layout = PAIR) -> list[dict[str, Any]]:
    ranks.run(small.train_rank, 2, small.spec(tokens, work, layout, train=train_settings))
    return read_rows(work / METRICS)


def weights(work: Path) -> dict[str, torch.Tensor]:
    newest = latest(work)
    assert newest is not None
    return dict(read_weights(newest))


def by_hand(rank: int, world: int, rendezvous: str, tokens: Path, checkpoint: Path | None, steps: list[int]) -> dict[str, torch.Tensor]:
    """The weights after doing just ``steps`` of the phase, from a checkpoint or from the start: the engine alone, no loop, no policy."""
    from megatron_snow.checkpoint.engine import load
    from megatron_snow.model.initialise import initialise, sharded_parts
    from megatron_snow.training.batches import Batches
    from megatron_snow.training.engine import Engine
    from megatron_snow.training.schedule import learning_rate

    backend, place = ranks.joined(PAIR, rank, world, rendezvous)
    engine = Engine(small.train(PHASE), PHASE, small.MODEL, 256, PAIR, backend, place)
    initialise(engine.chunks, small.MODEL, 7)
    engine.optimizer.reload_model_params()
    if checkpoint is not None:
        load(checkpoint, engine.chunks, engine.optimizer, read_description(checkpoint), place)
    batches = Batches(phase_samples("general", PHASE, tokens, 7), PHASE.samples_of, 1, small.VOCABULARY, place, backend)
    for step in steps:
        engine.step(batches.step(step), learning_rate(PHASE, step), step + 1, False)
    engine.settle()
    return {parts[0].key: weight.detach().clone() for weight, parts in sharded_parts(engine.chunks[0])}


def test_ignored_spikes_are_trained_on_and_seen(corrupted: Path, tmp_path: Path) -> None:
    losses = [row["loss"] for row in train(corrupted, tmp_path, settings("ignore"))]
    assert losses[BAD] > 1.15 * np.median(losses[BAD - 8 : BAD])  # what the other tests rest on
    assert max(losses[index] / np.median(losses[index - 8 : index]) for index in range(8, STEPS) if index != BAD) < 1.15


def test_skipped_step_is_left_out_on_every_rank(corrupted: Path, tmp_path: Path) -> None:
    rows = train(corrupted, tmp_path, settings("skip"))
    assert [row["step"] for row in rows if "anomaly" in row] == [BAD + 1]
    assert rows[BAD]["action"] == "skip" and "times the median" in rows[BAD]["anomaly"] and rows[BAD]["gradient_norm"] is None
    expected = ranks.run(by_hand, 2, corrupted, None, [step for step in range(STEPS) if step != BAD])[0]
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(tmp_path).items())


def test_roll_back_goes_on_from_the_last_checkpoint_after_the_bad_step(corrupted: Path, tmp_path: Path) -> None:
    rows = train(corrupted, tmp_path, settings("roll_back"))
    assert (rows[BAD]["action"], rows[BAD]["rolled_back_to"]) == ("roll_back", 20)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1)) and sum("anomaly" in row for row in rows) == 1
    expected = ranks.run(by_hand, 2, corrupted, step_folder(tmp_path, 20), list(range(BAD + 1, STEPS)))[0]
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(tmp_path).items())
    assert read_description(step_folder(tmp_path, STEPS)).history.roll_backs == 1

    for resumed_from in (20, 25):  # before the roll-back, which is then done again, and after it
        work = tmp_path / f"from {resumed_from}"
        shutil.copytree(step_folder(tmp_path, resumed_from), step_folder(work, resumed_from))
        shutil.copy(tmp_path / METRICS, work / METRICS)
        assert without_times(train(corrupted, work, settings("roll_back"))) == without_times(rows)
        assert read_description(step_folder(work, STEPS)).files == read_description(step_folder(tmp_path, STEPS)).files


def test_stop_says_what_was_seen_and_keeps_the_row(corrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=rf"the loss [0-9.]+ is 1\.[0-9]+ times the median [0-9.]+ at step {BAD + 1}: lower learning_rate\.peak"):
        train(corrupted, tmp_path, settings("stop"))
    assert read_rows(tmp_path / METRICS)[-1]["action"] == "stop"
    assert latest(tmp_path) == step_folder(tmp_path, 20)


def test_a_model_that_cannot_be_saved_is_not_rolled_back_for_ever(tokens: Path, tmp_path: Path) -> None:
    wild = small.phase(12, learning_rate=LearningRate(peak=1e30, warmup=Duration(amount=1, unit="steps")))
    with pytest.raises(SnowError, match=r"right after a roll-back to the first of this phase's checkpoints|after 3 roll-backs in this phase"):
        train(tokens, tmp_path / "back", small.train(wild, anomalies=AnomalySettings(not_finite="roll_back", most=3)))
    with pytest.raises(SnowError, match="after 3 skipped steps in a row"):
        train(tokens, tmp_path / "skip", small.train(wild, anomalies=AnomalySettings(not_finite="skip", most=3)))
    rows = read_rows(tmp_path / "skip" / METRICS)
    assert rows[-1]["anomaly"].split(" is ")[0] in ("the loss", "the gradient norm") and rows[-1]["action"] == "stop"


def poisoned(rank: int, world: int, rendezvous: str, where: str) -> tuple[Any, bool, float]:
    """(Outcome, whether this rank's weights and optimizer are as before, its step count) of a step with one rank's weight poisoned."""
    from megatron_snow.model.initialise import initialise
    from megatron_snow.parallel.optimizer_fixes import prepare_state, torch_optimizers
    from megatron_snow.training.engine import Engine

    layout = Layout(tensor=2, data=2)
    backend, place = ranks.joined(layout, rank, world, rendezvous)
    engine = Engine(small.train(), small.phase(), small.MODEL, 256, layout, backend, place)
    initialise(engine.chunks, small.MODEL, seed=1)
    engine.optimizer.reload_model_params()
    prepare_state(engine.optimizer)
    row = torch.arange(32)[None]
    batches = [{"tokens": row, "labels": row, "positions": row}]
    engine.try_step(batches, 1e-3, False, lambda loss: None)
    matrix = next(weight for weight in engine.chunks[0].decoder.parameters() if weight.dim() == 2)
    if rank == 3 and where == "loss":
        matrix.data.view(-1)[0] = math.nan
    if rank == 3 and where == "gradient":  # finite going forward: the gradient alone is lost on its way back
        matrix.register_hook(lambda gradient: gradient * math.inf)

    def state() -> list[torch.Tensor]:
        inner = [value for one in torch_optimizers(engine.optimizer) for state in one.optimizer.state.values() for value in state.values()]
        return [tensor.clone() for tensor in [*(weight.data for weight in engine.chunks[0].parameters()), *inner]]

    before = state()
    done = engine.try_step(batches, 1e-3, False, Watch(AnomalySettings()).complaint)
    same = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, state(), strict=True))
    count = max(float(state["step"]) for one in torch_optimizers(engine.optimizer) for state in one.optimizer.state.values())
    return done.complaint, same, count


@pytest.mark.parametrize(("where", "says"), [("loss", "the loss is nan"), ("gradient", "the gradient norm is ")])
def test_what_is_not_finite_on_one_rank_changes_nothing_on_any(where: str, says: str) -> None:
    found = ranks.run(poisoned, 4, where)
    assert len({complaint for complaint, _, _ in found}) == 1 and found[0][0].startswith(says)
    assert all(same for _, same, _ in found)
    assert [count for _, _, count in found] == [1.0] * 4


def test_the_history_survives_a_checkpoint_to_the_bit() -> None:
    watch = Watch(AnomalySettings(spike="skip", spike_window=8))
    for index in range(20):
        watch.good(1 / (index + 3))
    again = Watch(watch.settings)
    again.restore(History.model_validate_json(watch.history.model_dump_json()))
    assert again.history == watch.history and len(again.history.losses) == 8
    assert watch.complaint(0.2) == again.complaint(0.2) is not None
    assert watch.complaint(0.06) is None


def test_a_few_losses_are_no_median() -> None:
    watch = Watch(AnomalySettings(spike="stop", spike_window=16))
    for _ in range(3):
        watch.good(1.0)
    assert watch.complaint(9.0) is None
    watch.good(1.0)
    assert watch.complaint(9.0) == "the loss 9 is 9 times the median 1"
