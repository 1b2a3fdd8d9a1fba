"""Axes: where a value lands on the canvas, and which ticks to label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NARROWEST = 0.2  # of the width, for a phase's panel (ours: its label and two tick labels must fit, see PhaseScale)


@dataclass(frozen=True)
class Scale:
    """A linear map of [low, high] onto [start, end] canvas units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where ``value`` is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """About ``wanted`` round values within the range."""
        step = _round_step((self.high - self.low) / max(wanted, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def fit(values: Iterable[float], start: float, end: float, zero: bool = False) -> Scale:
    """A scale that holds ``values`` (finite ones) and ends on round numbers; from 0 where ``zero``."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (min(0.0, *finite) if zero else min(finite)), max(finite)
    if high - low < 1e-12 * max(abs(high), 1e-30):
        low, high = low - (abs(low) / 10 or 0.5) * (not zero), high + (abs(high) / 10 or 0.5)
    step = _round_step((high - low) / 5)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)


@dataclass(frozen=True)
class LogScale:
    """A logarithmic map of [low, high], powers of ten, onto [start, end] canvas units."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, low: float, high: float, start: float, end: float) -> LogScale:
        """From the power of ten below ``low`` to the one above ``high``."""
        least = math.floor(math.log10(max(low, 1e-30)) + 1e-9)
        most = max(math.ceil(math.log10(max(high, 1e-30)) - 1e-9), least + 1)
        return cls(10.0**least, 10.0**most, start, end)

    def __call__(self, value: float) -> float:
        """Where ``value`` is drawn; what lies outside is drawn at the nearer end."""
        inside = min(max(value, self.low), self.high)
        return self.start + math.log10(inside / self.low) / math.log10(self.high / self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten, at most about seven of them."""
        least, most = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(least, most + 1, max(1, math.ceil((most - least) / 6)))]


@dataclass(frozen=True)
class Panel:
    """One phase on the horizontal axis."""

    name: str
    scale: Scale


@dataclass(frozen=True)
class PhaseScale:
    """Tokens over all phases, one after the other, each phase in its own panel.

    The paper's phases are 500B, 50B and 5B tokens: on one linear axis the last is under 1 % of the width. So a panel is as
    wide as its phase's share of the tokens, but a fifth at least; within a panel the axis is linear, and its ends are labelled.
    """

    panels: tuple[Panel, ...]

    @classmethod
    def over(cls, phases: Sequence[tuple[str, float]], start: float, end: float) -> PhaseScale:
        """Panels for (name, tokens) in order, from ``start`` to ``end`` on the canvas."""
        panels, left, done = [], start, 0.0
        for (name, tokens), part in zip(phases, _widths([tokens for _, tokens in phases]), strict=True):
            right = left + part * (end - start)
            panels.append(Panel(name, Scale(done, done + (tokens or 1.0), left, right)))
            left, done = right, done + tokens
        return cls(tuple(panels))

    def __call__(self, phase: str, tokens: float) -> float:
        """Where ``tokens`` into ``phase`` is drawn."""
        scale = next(panel.scale for panel in self.panels if panel.name == phase)
        return scale(scale.low + tokens)

    def total(self, tokens: float) -> float:
        """Where ``tokens`` since the start of the first phase is drawn."""
        scale = next((panel.scale for panel in self.panels if tokens <= panel.scale.high), self.panels[-1].scale)
        return scale(tokens)

    @property
    def uneven(self) -> bool:
        """Whether panels are not to one scale."""
        rates = [(panel.scale.end - panel.scale.start) / (panel.scale.high - panel.scale.low) for panel in self.panels]
        return bool(rates) and max(rates) > 1.01 * min(rates)


def _widths(tokens: Sequence[float]) -> list[float]:
    """Shares of the width: those of the tokens, but ``_NARROWEST`` at least (or all equal, where that many do not fit)."""
    least = min(_NARROWEST, 1 / max(len(tokens), 1))
    narrow: set[int] = set()
    while True:
        wide = sum(amount for index, amount in enumerate(tokens) if index not in narrow) or 1.0
        room = 1 - least * len(narrow)
        shares = [least if index in narrow else amount / wide * room for index, amount in enumerate(tokens)]
        found = {index for index, part in enumerate(shares) if part < least * (1 - 1e-9)}
        if not found:
            return shares
        narrow |= found


def thin(points: Sequence[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    """At most ``most`` points: of each run of neighbours its lowest and its highest, so that spikes stay visible."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most // 2))
    kept: list[tuple[float, float]] = []
    for index in range(0, len(points), size):
        run = points[index : index + size]
        kept += sorted({min(run, key=lambda point: point[1]), max(run, key=lambda point: point[1])})
    return kept


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the next above ``rough``."""
    if not rough > 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
