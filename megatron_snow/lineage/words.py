"""Traces as text for people. Names come from outside: what a terminal could take for a command is written as an escape."""

from __future__ import annotations

from collections import Counter

from megatron_snow.artifacts.units import format_count
from megatron_snow.lineage.records import Record
from megatron_snow.lineage.repository import RepositoryTrace
from megatron_snow.lineage.step import StepTrace

_SHOWN = 20  # files, runs and drops listed (ours: a screen; --json has all)


def plain(text: str) -> str:
    """``text`` with everything unprintable escaped."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def render_step(trace: StepTrace) -> str:
    """A step: its samples with their pieces, then each file once."""
    files = {record["id"]: record for record in trace["files"]}
    pieces = [piece for some in trace["samples"].values() for piece in some]
    documents = {(piece["tier"], piece["shard"], piece["document"]) for piece in pieces}
    tiers = Counter(dict.fromkeys(sorted({piece["tier"] for piece in pieces}), 0))
    for piece in pieces:
        tiers[piece["tier"]] += piece["tokens"]
    repositories = {record["repository"] for record in trace["files"]}
    lines = [
        f"Step {trace['step']} of phase {trace['phase']}: {len(trace['samples'])} samples, {len(documents)} documents, {len(files)} files "
        f"of {len(repositories)} repositories; tokens: " + ", ".join(f"{tier} {count:,}" for tier, count in tiers.items()),
        "",
    ]
    for number, some in trace["samples"].items():
        lines.append(f"sample {number}: " + ", ".join(f"{piece['tokens']} of {plain(piece['id'])}" for piece in some))
    lines += ["", f"  {'tokens':>7} {'score':>7}  {'licence':<24} {'language':<16} file"]
    for record in sorted(trace["files"], key=lambda record: (-trace["tokens"][record["id"]], record["id"])):
        lines.append(f"  {trace['tokens'][record['id']]:>7} {_file(record)}")
        if record["seed"]:
            seed = trace["seeds"].get(record["seed"])
            lines.append(f"  {'':>7} {'seed':>7}  " + (_origin(seed) if seed else plain(record["seed"])))
    dropped = trace["filters"]["dropped"]
    lines += ["", "All passed the corpus's filters, which dropped: " + (", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "nothing")]
    return "\n".join(lines)


def _file(record: Record) -> str:
    score = "" if record["score"] is None else f"{record['score']:.3f}"
    copies = f"  (stands for {record['stands_for']} duplicates)" if record["stands_for"] else ""
    return f"{score:>7}  {_origin(record)}{copies}"


def _origin(record: Record) -> str:
    place = f"{record['tier']}/{record['shard']}:{record['row']}"
    return f"{plain(record['license']) or 'none stated':<24} {plain(record['language']):<16} {plain(record['id'])}  [{place}]"


def render_repository(trace: RepositoryTrace, states: dict[str, str]) -> str:
    """Whether repositories were in, where, at which steps, and what was dropped."""
    names = ", ".join(plain(name) for name in trace["repositories"])
    trained = sorted({phase for phase, tiers in trace["phases"].items() if tiers and states[phase] == "trained"})
    lines = [f"{names}: " + _verdict(trace, trained)]
    for tier, part in trace["tiers"].items():
        licenses = ", ".join(f"{plain(name)} {count}" for name, count in sorted(part["licenses"].items()))
        lines.append(f"  {tier}: {len(part['files'])} files in {part['documents']} documents, {format_count(part['tokens'])} tokens; licences: {licenses}")
        lines += _first(part["files"])
    if trace["scored"]:
        one = trace["scored"]
        lines.append(f"  scores: {one['files']} files scored, {one['selected']} selected; {one['lowest']:.3f} to {one['highest']:.3f}, mean {one['mean']:.3f}")
    if trace["synthetic"]:
        lines.append(
            f"  synthetic: {len(trace['synthetic']['files'])} files were written with theirs as seeds, {format_count(trace['synthetic']['tokens'])} tokens"
        )
    for phase, tiers in trace["phases"].items():
        for tier, reads in tiers.items():
            where = f"in {reads['samples']} samples at {reads['steps']} of {reads['of']} steps: {_runs(reads['runs'])}"
            lines.append(f"  phase {phase} ({states[phase]}): {reads['tokens']:,} tokens of {tier} {where}")
    if trace["dropped"]:
        lines.append("  dropped: " + ", ".join(f"{plain(reason)} {count}" for reason, count in sorted(trace["dropped"].items())))
        lines += _first([f"{row['id']}: {row['reason']}" + (f" ({row['of']} stays)" if row["of"] else "") for row in trace["dropped_files"]])
    return "\n".join(lines)


def _verdict(trace: RepositoryTrace, trained: list[str]) -> str:
    if trained:
        return f"it was in: trained on in {', '.join(trained)}"
    if set(trace["tiers"]) == {"heldout"}:
        return "held out: evaluated on, never trained on"
    if trace["tiers"]:
        return "it is in the tiers; no phase has been trained on it"
    if trace["dropped"]:
        return "it is not in: all of its files were dropped"
    return "it is not in: no file of it was read (no such repository in the sources, or their max_bytes left it out)"


def _runs(runs: list[tuple[int, int]]) -> str:
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs[:_SHOWN])
    return shown + (f", ... {runs[-1][1]}" if len(runs) > _SHOWN else "")


def _first(items: list[str]) -> list[str]:
    lines = [f"    {plain(item)}" for item in items[:_SHOWN]]
    return lines + ([f"    ... and {len(items) - _SHOWN} more (--json lists all)"] if len(items) > _SHOWN else [])
