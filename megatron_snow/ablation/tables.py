"""The result of a study as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megatron_snow.ablation.arms import Opened, describe_tokens
from megatron_snow.ablation.plan import parameter_count
from megatron_snow.artifacts.units import format_count, format_seconds

_HOW = (
    "Intervals are 95 %: bootstrap standard errors over seeds and over problems, t's quantile (ablation/statistics.py). Differences are paired by seed and "
    "problem; p is two-sided, Holm's correction over the comparisons of a metric; 'no difference beyond noise' where it is 0.05 or more."
)


def describe_arms(opened: Opened, seconds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """What each arm is, and how long its training took, a run."""
    recipes = {unit.arm: unit.recipe for unit in opened.units} | dict(opened.planned)
    return {
        name: {
            "title": arm.title + (" (planned only)" if arm.plan_only else f" (left out: {opened.absent[name]} is not there)" if name in opened.absent else ""),
            "paper": arm.paper,
            "parameters": parameter_count(recipes[name]) if name in recipes else None,
            "phases": describe_tokens(recipes[name]) if name in recipes else "",
            "seconds": round(seconds[name], 1) if name in seconds else None,
        }
        for name, arm in opened.study.arms.items()
    }


def markdown(tree: Mapping[str, Any], plots: Mapping[str, str], alarms: Sequence[str]) -> str:
    """results.json as a page, with the lines on failure signatures."""
    lines = [
        f"# {tree['title'] or tree['study']}",
        "",
        *([tree["question"], ""] if tree["question"] else []),
        f"Scale {tree['scale']}{': ' + tree['scale_title'] if tree['scale_title'] else ''}; {format_count(tree['tokens'])} training tokens a run; seeds "
        f"{', '.join(map(str, tree['seeds']))}, each with {'its own weights and order of samples' if tree['seed_changes'] == 'train' else 'its own road'}.",
        *([f"**Not finished: {', '.join(tree['runs']['missing'])}.**"] if tree["runs"]["missing"] else []),
        *(f"**{note}**" for note in tree["notes"]),
        "",
        *_table(
            ["arm", "what", "parameters", "phases", "training a run", "paper"],
            [[name, arm["title"], _count(arm["parameters"]), arm["phases"], _seconds(arm["seconds"]), arm["paper"]] for name, arm in tree["arms"].items()],
        ),
    ]
    for metric, found in tree["metrics"].items():
        better = "lower" if found["lower_is_better"] else "higher"
        lines += ["", f"## {metric}: {found['unit']}, {better} is better", "", f"![{metric}]({plots[metric]})", ""]
        lines += [found["note"], ""] if found["note"] else []
        lines += _table(
            ["arm", "mean [95 %]", "by seed"],
            [[arm, _range(values), ", ".join(f"{value:.4g}" for value in values["by_seed"].values())] for arm, values in found["arms"].items()],
        )
        if found["comparisons"]:
            lines += ["", *_table(["comparison", "difference [95 %]", "p (Holm)", "seeds x items", ""], [_comparison(one) for one in found["comparisons"]])]
    return "\n".join([*lines, "", "## Failure signatures", "", *alarms, "", _HOW, ""])


def _comparison(one: Mapping[str, Any]) -> list[str]:
    return [
        f"{one['arm']} - {one['against']}",
        _range(one, "+"),
        "" if one["holm"] is None else f"{one['holm']:.2g}",
        f"{one['seeds']} x {one['items']}",
        one["verdict"],
    ]


def _range(values: Mapping[str, Any], sign: str = "") -> str:
    interval = "" if values["low"] is None else f" [{values['low']:{sign}.4g}, {values['high']:{sign}.4g}]"
    return f"{values['value']:{sign}.4g}{interval}"


def _count(count: int | None) -> str:
    return "" if count is None else format_count(count)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *cells)]
