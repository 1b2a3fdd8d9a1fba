"""Over-fitting to the high-quality tier: how far a model's loss on it has parted from that on code it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RISE_THRESHOLD = 0.02  # nats a token: training's own (watch.overfit_margin), 2 % of perplexity, above what one seed differs from another
GAP_THRESHOLD = 0.5  # ours: nats a token by which a phase may widen the gap, twice what the quickstart's second phase does (0.23)


FITTED, UNSEEN = "high_quality", "heldout"


def phase_gap(rows: Sequence[Mapping[str, Any]], before: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Of a phase's validation rows (step, tokens, tier, loss; not of single languages): the gap ``UNSEEN - FITTED`` at each step, nats a token.

    ``widened``: how much the gap grew from the end of the phase ``before`` (this function's own result; the first validation where
    there is none); ``rise``: how far the loss on unseen code, at the end, is above its lowest since then. None where
    the two tiers are not both validated.
    """
    fitted, unseen = FITTED, UNSEEN
    losses: dict[str, dict[int, float]] = {fitted: {}, unseen: {}}
    tokens: dict[int, int] = {}
    for row in rows:
        if row["tier"] in losses and "language" not in row and row["loss"] is not None:
            losses[row["tier"]][row["step"]] = row["loss"]
            tokens[row["step"]] = row["tokens"]
    steps = sorted(losses[fitted].keys() & losses[unseen].keys())
    if not steps:
        return None
    points: list[dict[str, Any]] = [
        {
            "step": step,
            "tokens": tokens[step],
            fitted: losses[fitted][step],
            unseen: losses[unseen][step],
            "gap": round(losses[unseen][step] - losses[fitted][step], 6),
        }
        for step in steps
    ]
    first, last = before["points"][-1] if before else points[0], points[-1]
    widened = last["gap"] - first["gap"]
    rise = last[unseen] - min(point[unseen] for point in (first, *points))
    return {"points": points, "widened": round(widened, 6), "rise": round(rise, 6), "alarm": rise > RISE_THRESHOLD or widened > GAP_THRESHOLD}
