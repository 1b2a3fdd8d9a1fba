"""The records of a run with what is watched beside them: memory, utilisation, data position, other sinks, warnings.

MFU, model FLOPs utilisation: tokens a second x ``model.settings.flops_per_token`` / (ranks x the device's peak FLOP/s). It
counts neither recomputation nor the saving of causal attention twice; left out where no peak is known (a CPU).
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import psutil
import torch

from megatron_snow.artifacts.progress import say
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.megatron import MegatronSamples
from megatron_snow.model.settings import flops_per_token, padded_vocabulary
from megatron_snow.parallel.groups import Place
from megatron_snow.training.records import METRICS, VALIDATION, Records, read_rows
from megatron_snow.training.sinks import Sink, open_sinks
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.symptoms import overfitting, repetition

_PEAKS = (("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200", 989e12), ("A100", 312e12))
"""FLOP/s of dense bf16 by what CUDA calls the card (NVIDIA's data sheets); the first that fits."""


class WatchedRecords(Records):
    """``Records`` whose metrics rows also hold, on the leader:

    - ``memory``: bytes; the most that CUDA's allocator has handed out to the leader, on a CPU its resident set;
    - ``mfu``, where the device's peak is known;
    - ``samples`` and ``passes``: tier -> how many samples of it the phase has read, and how often it has gone through it.

    Rows go to the sinks of ``train.watch`` too, and what they are a symptom of is said once.
    """

    def __init__(self, spec: RunSpec, step: int, place: Place, data: PhaseDataset | MegatronSamples) -> None:
        before = read_rows(spec.work / METRICS) if place.leader else []
        super().__init__(spec.work, step, place.leader)
        self.spec, self.data, self.watch = spec, data, spec.train.watch
        self._sinks: list[Sink] = []
        if place.leader:
            self._sinks = list(open_sinks(self.watch, spec.work, spec.phase, step, before[-1]["step"] if before else 0))
            self._validation = read_rows(spec.work / VALIDATION)
            self._told = set(overfitting(self._validation, spec.settings.mix, self.watch))
            self._whole, self._read, self._next = data.counts(), dict.fromkeys(spec.settings.mix, 0), 0
            self._epochs = {tier: data.epochs(tier) for tier in spec.settings.mix}
            self._go_to(step)
            self._repeated = set(self._repetition())
            self._speed = _peak(self.watch.peak_flops, place.world)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for sink in self._sinks:
            sink.close()
        super().__exit__(kind, value, trace)

    def add(self, name: str, row: dict[str, Any]) -> None:
        if not self._handles:
            return
        if name == METRICS:
            row = row | self._measures(row)
        super().add(name, row)
        for sink in self._sinks:
            sink.add(row["step"], scalars(name, row))
        if name == METRICS:
            self._warn_of_repetition()
        elif name == VALIDATION:
            self._validation.append(row)
            self._tell(overfitting(self._validation, self.spec.settings.mix, self.watch))

    def sync(self) -> None:
        for sink in self._sinks:
            sink.flush()
        super().sync()

    def _measures(self, row: dict[str, Any]) -> dict[str, Any]:
        self._go_to(row["step"])
        found: dict[str, Any] = {
            "memory": _memory(), "samples": dict(self._read), "passes": {tier: round(count, 4) for tier, count in self._passes().items()},
        }  # fmt: skip
        if self._speed is not None and row.get("tokens_per_second"):
            vocabulary = padded_vocabulary(self.spec.model, self.spec.vocabulary)
            flops = flops_per_token(self.spec.model, vocabulary, self.spec.settings.sequence)
            found["mfu"] = round(row["tokens_per_second"] * flops / self._speed, 4)
        return found

    def _go_to(self, step: int) -> None:
        """Count what was read until ``step`` steps are finished."""
        end = self.spec.settings.first_sample(step)
        for tier, count in self.data.counts(range(self._next, end)).items():
            self._read[tier] += count
        self._next = end

    def _passes(self) -> dict[str, float]:
        """Tier -> passes over it so far."""
        return {tier: self._epochs[tier] * self._read[tier] / count if count else 0.0 for tier, count in self._whole.items()}

    def _repetition(self) -> dict[str, str]:
        return repetition(self._passes(), self.spec.settings)

    def _warn_of_repetition(self) -> None:
        found = self._repetition()
        for tier in found.keys() - self._repeated:
            self._repeated.add(tier)
            self._tell([found[tier]])

    def _tell(self, messages: list[str]) -> None:
        for message in messages:
            if message not in self._told:
                self._told.add(message)
                say(f"  warning, train {self.spec.phase}: {message}")


def scalars(name: str, row: dict[str, Any]) -> dict[str, float]:
    """A row's numbers under the names that sinks show: ``train/loss``, ``data/passes/standard``, ``validation/heldout``, ``validation/heldout/Python``."""
    if name == VALIDATION:
        flat = {"/".join(("validation", row["tier"], *([row["language"]] if "language" in row else []))): row["loss"]}
    else:
        flat = {f"train/{key}": value for key, value in row.items() if key not in ("step", "seconds")}
        flat |= {f"data/{key}/{tier}": value for key in ("samples", "passes") for tier, value in row.get(key, {}).items()}
    return {key: float(value) for key, value in flat.items() if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)}


def _memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


def _peak(given: float | None, ranks: int) -> float | None:
    """FLOP/s of all ranks' devices, where known."""
    if given is None and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        given = next((peak for card, peak in _PEAKS if card in name), None)
    return None if given is None else given * ranks
