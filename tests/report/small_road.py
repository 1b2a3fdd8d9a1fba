"""A whole road of small published artefacts, in the shapes the arrows write; HOSTILE is in every place untrusted text can be."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.artifacts.publish import Building

VALIDATED = ("Python", "C++", "JavaScript", "Jupyter Notebook", "reStructuredText", "Shell", "Rust", "SQL", "Haskell")  # validated apart
PHASES = {"general": {"standard": 1.0}, "continued": {"high_quality": 1.0}, "enhanced": {"synthetic": 0.7, "standard": 0.3}}
STEPS = {"general": 200, "continued": 60, "enhanced": 20}
STEP_TOKENS = 8_192
LONG = "a-very-long-name" * 30  # no place to break it
HOSTILE = "</code></pre><script>document.title='owned'</script><img src=x onerror=alert(1)>&amp;\u202eevil\x00"
LANGUAGES = ("Python", "C++", "Jupyter Notebook", "Shell")
RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "corpus": {"heldout_fraction": 0.1, "max_file_bytes": 10_000_000},
    "model": {"hidden": 128, "layers": 4, "heads": 16},
    "train": {"phases": {name: {"blend": blend, "tokens": STEPS[name] * STEP_TOKENS} for name, blend in PHASES.items()}},
    "budget": {"corpus": 60},
}


def publish(folder: Path, arrow: str, counts: dict[str, Any], files: dict[str, Any]) -> Path:
    """Publish an artefact; a file is JSON-able, rows (.jsonl) or documents (a folder)."""
    building = Building(folder, arrow, 1, {"setting": arrow}, 7, {}).open()
    for name, content in files.items():
        path = building.work / name
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        elif path.suffix:
            path.write_text(json.dumps(content))
        else:
            write_documents(path, content)
    building.counts = counts
    building.publish()
    return folder


def _body(name: str) -> str:
    """Lines that no other file has."""
    return "".join(f"result_{name}_{line} = compute({line})\n" for line in range(3))


def documents(tier: str, count: int) -> list[Document]:
    """Rows of a tier, hostile text in each field that comes from outside."""
    return [
        Document(
            id=f"distributions/pkg{index % 5}/{tier}/{index}<b>.py",
            text=f"# file {index} of {tier}\n{HOSTILE}\n" + _body(f"{tier}_{index}") + "value = 1\n" * (index % 7),
            language=LANGUAGES[index % len(LANGUAGES)],
            repository=f"pkg{index % 5}",
            path=f"{index}<b>.py",
            license=("MIT", "Apache-2.0", "", "<i>LicenseRef</i>")[index % 4],
            source="distributions",
        )
        for index in range(count)
    ]


def corpus_summary() -> dict[str, Any]:
    side = {"documents": 50, "bytes": 90_000, "repositories": 9, "languages": {"Python": {"files": 30, "bytes": 60_000}, "C++": {"files": 20, "bytes": 30_000}}}
    return {
        "in": 160,
        "kept": 100,
        "drops": {"long lines": {"Python": 5, "C++": 15}, "near duplicate": {"Python": 39, "<b>odd</b>": 1}},
        "examples": {"long lines": [{"id": "a/b<c>.py", "snippet": HOSTILE}], "near duplicate": [{"id": "d", "snippet": "same"}]},
        "standard": side,
        "heldout": side,
        "licenses": {"MIT": 60, "none stated": 40},
        "near_duplicates": {"clusters": 3, "dropped": 40, "largest": [{"kept": f"x/<u>{LONG}", "dropped": 30}]},
        "decontamination": {
            "sought": 314,
            "benchmarks": {"humaneval": 313, "mbpp+": 1},
            "ignored": ["humaneval HumanEval/2 solution"],
            "found": {"humaneval HumanEval/0 docstring": 2, **{f"humaneval HumanEval/{number} solution": 1 for number in range(1, 20)}},
        },
        "taken_down": {"files": {"owner/gone": 3}, "no file": [f"owner/{HOSTILE[:20]}"]},
        "redactions": {"<EMAIL>": {"Python": 12, "C++": 3}, "<KEY>": {"Python": 2}},
        "redacted_kinds": {"email": 15, "github-pat": 2},
        "refused_licenses": {"GPL-3.0-only": 1_200, **{f"<b>L-{index}": 1 for index in range(30)}},
    }


def corpus_samples() -> list[dict[str, Any]]:
    kinds = [("dropped", "long lines", language) for language in LANGUAGES] + [("kept", "", language) for language in LANGUAGES]
    return [
        {"kind": kind, "reason": reason, "language": language, "id": f"{kind}/{language}/{index}{LONG}", "repository": "r", "path": "p", "license": "",
         "text": f"sample {kind} {language} {index}\n{HOSTILE}"}
        for kind, reason, language in kinds for index in range(4)
    ]  # fmt: skip


def annotation_summary() -> dict[str, Any]:
    edges = [index / 20 for index in range(21)]
    side = {"positives": 90, "negatives": 110, "repositories": 14}
    auc = {"auc": 0.91, "standard_error": 0.02, "positives": 90, "negatives": 110}
    rows = [
        {"id": f"repo/file{index}.py", "language": "Python", "score": index / 10, "tokens": 300, "selected": index > 7, "snippet": HOSTILE}
        for index in range(10)
    ]
    return {
        "encoder": {"name": "fixture:all-MiniLM-L6-v2", "pooling": "mean", "section": 128, "precision": "float32", "width": 384},
        "labelled": {
            "sources": [
                {"kind": "heuristic", "stands_for": "files that pass a rule; stands in for the paper's 220k", "asked": 100, "found": 90},
                {"kind": "negatives", "stands_for": "random files, as in the paper", "asked": 110, "found": 110},
            ],
            "training": side,
            "validation": side,
        },
        "head": {"task": "classification", "heads": ["*", "Python"], "calibration": "platt"},
        "losses": [0.69, 0.52, 0.44, 0.41],
        "validation_losses": [0.69, 0.56, 0.5, 0.51],
        "best_epoch": 3,
        "rounds": [{"round": 0, "added": 0, "auc": 0.88}, {"round": 1, "added": 40, "auc": 0.91}],
        "validation": {
            **auc,
            "calibration": {
                "brier": 0.12,
                "error": 0.034,
                "bins": [
                    {"from": index / 5, "to": (index + 1) / 5, "files": 40, "predicted": index / 5 + 0.1, "observed": index / 5 + 0.05} for index in range(5)
                ],
            },
            "points": [[0, 0], [0.05, 0.6], [0.3, 0.9], [1, 1]],
            "within_languages": 0.88,
            "languages": {"Python": auc},
        },
        "histogram": {"edges": edges, "languages": {"Python": [index * 3 % 17 for index in range(20)], "C++": [5] * 20}},
        "selection": {
            "Python": {"files": 160, "tokens": 50_000, "mix": 0.7, "target": 7_000, "selected": 20, "selected_tokens": 6_900, "threshold": 0.74},
            "C++": {"files": 100, "tokens": 20_000, "mix": 0.3, "target": 3_000, "selected": 0, "selected_tokens": 0, "threshold": None},
        },
        "deciles": [{"from": index / 10, "to": (index + 1) / 10, "files": 26, "examples": [rows[index]]} for index in range(10)],
    }


def metrics(phase: str, noise: random.Random) -> list[dict[str, float]]:
    start, steps = {"general": (8.3, 200), "continued": (5.0, 60), "enhanced": (4.1, 20)}[phase]
    return [
        {
            "step": step,
            "tokens": step * STEP_TOKENS,
            "loss": start - 0.55 * math.log1p(step) + noise.gauss(0, 0.08),
            "learning_rate": 5.3e-4 * min(step / 10, 1 - step / (steps + 1)),
            "gradient_norm": abs(noise.gauss(1.2, 0.3)),
            "tokens_per_second": noise.gauss(5_100, 150),
            "seconds": 1.6,
        }
        for step in range(1, steps + 1)
    ]


def validation(phase: str) -> list[dict[str, Any]]:
    base = {"general": 5.6, "continued": 4.9, "enhanced": 4.7}[phase]
    steps = STEPS[phase]
    return [
        {"step": step, "tokens": step * STEP_TOKENS, "tier": tier, "loss": base - 0.4 * step / steps + 0.15 * offset}
        for step in (steps // 2, steps)
        for offset, tier in enumerate(("high_quality", "standard", "heldout", "synthetic"))
    ] + [
        {"step": step, "tokens": step * STEP_TOKENS, "tier": "heldout", "language": language, "loss": base - 0.4 * step / steps + 0.2 * offset}
        for step in (steps // 4, steps // 2, steps)
        for offset, language in enumerate(VALIDATED)
    ]


def results(phase: str) -> dict[str, Any]:
    gain = {"general": 0.0, "continued": 0.21, "enhanced": 0.18}[phase]
    return {
        "bits_per_byte": {
            "heldout": {"all": 2.31 - gain, "Python": 2.2 - gain, "C++": 2.6 - gain / 2, "Shell": 3.1 + gain},
            "humaneval_solutions": 1.9 - 2 * gain,
            "solutions": {"humaneval+": 1.9 - 2 * gain, "mbpp+": 2.2 - gain},
        },
        "benchmarks": benchmarks({"general": 14, "continued": 20, "enhanced": 31}[phase]),
        "off_target": {"standard": {"Python": 2.4 - gain, "Shell": 3.1 + gain}, "synthetic": {"<i>Python": 1.9 - gain}},
        "annotator": {"roc_auc": 0.91},
        "humaneval": {"pass_at_1": 1 / 164, "passed": 1, "problems": 164, "reasons": {"syntax error": 120, "wrong answer": 43, "passed": 1}},
        "completions": [
            {"prompt": "def fibonacci(n):", "completion": f"\n    return n  # {HOSTILE}\n"},
            {"prompt": "def read_lines(path):", "completion": "\n    pass"},
        ],
        "measured": {
            "heldout_bytes": {"Python": 60_000, "C++": 30_000, "Shell": 2_000},
            "heldout_documents": {"Python": 30, "C++": 20, "Shell": 2},
            "dtype": "fp32",
        },
    }


def benchmarks(passed: int) -> dict[str, Any]:
    def one(problems: int, **more: Any) -> dict[str, Any]:
        score = passed / problems
        return {
            "problems": problems, "samples": 1, "temperature": 0.0, "bits_per_byte": 1.2,
            "pass_at": {"1": {"score": score, "low": score * 0.8, "high": score * 1.2}},
            "reasons": {"passed": passed, "wrong answer": problems - passed - 3, "time <b>out": 3}, **more,
        }  # fmt: skip

    base = {"1": {"score": (passed + 5) / 164, "low": passed / 164, "high": (passed + 9) / 164}}
    return {
        "humaneval+": one(164, base_pass_at=base), "mbpp+": one(378), "evoeval/difficult": one(100), "evoeval": one(500, members=["evoeval/difficult"]),
    }  # fmt: skip


def synthesis_summary() -> dict[str, Any]:
    dropped = [{"seed_id": "distributions/pkg1/high_quality/1<b>.py", "language": "Python", "detail": "line 3: <i>invalid</i> syntax", "snippet": HOSTILE}]
    return {
        "requests": 20,
        "answers": 18,
        "unanswered": 2,
        "accepted": 6,
        "accepted_tokens": 900,
        "prompt_tokens": 7_000,
        "completion_tokens": 3_000,
        "drops": {"does not parse": {"Python": 7}, "no code block": {"Python": 3, "C++": 2}},
        "examples": {"does not parse": dropped},
        "languages": {"Python": {"asked": 14, "accepted": 4, "bytes": 600}, "C++": {"asked": 4, "accepted": 2, "bytes": 300}},
        "seeds": {"drawn": 20, "skipped": {"language": 3}},
        "model": "SmolLM2<135M>",
        "prompt": {"name": "file_small", "sha256": "0123456789abcdef"},
        "ended": "requests",
        "spent": 1.5,
        "styles": {"file_small": {"asked": 12, "accepted": 4}, "topics<b>": {"asked": 6, "accepted": 2}},
        "verified": {"passed": 2, "ran": 1, "failed": 1},
        "lint": {"documents": 4, "problems_per_100_lines": {"median": 2.5, "mean": 3.0, "p90": None}, "kinds": {"F401": 3, "E501": 1}},
    }


def diversity() -> dict[str, Any]:
    sets = ("synthetic", "seeds", "standard")
    spread = {"mean": 0.25, "median": 0.2, "p90": 0.5}
    pairs = ("synthetic to synthetic", "own seed", "standard to standard")
    return {
        "documents": 6, "sets": list(sets), "words": 600, "distinct": {name: {str(n): 0.2 * n for n in (1, 2, 3, 4)} for name in sets},
        "self_overlap": dict.fromkeys(sets, spread), "seed_overlap": {"lines": spread, "file": None},
        "embedding": {"encoder": "fixture:<b>", "nearest": dict.fromkeys(pairs, spread), "vendi": dict.fromkeys(sets, 3.5),
                      "histogram": {pair: [index % 4 for index in range(20)] for pair in pairs}},
        "topics": {"clusters": 2, "shares": {name: [0.75, 0.25] for name in sets}, "effective": dict.fromkeys(sets, 1.7),
                   "words": [["</td><script>", "sort"], ["file", "read"]], "empty": dict.fromkeys(sets, 0)},
        "divergence": {"languages": {"synthetic to standard": 0.4, "synthetic to seeds": 0.3, "standard to itself": 0.1},
                       "imports": {"synthetic to standard": None, "synthetic to seeds": None, "standard to itself": None}},
        "imports": {"synthetic": [["<b>os</b>", 0.5]], "seeds": [], "standard": [["sys", 0.25]]},
        "warnings": ["little is new: 45% of a synthetic document's word 5-grams are in its seed's file (30% allowed)"],
    }  # fmt: skip


def synthetic_documents() -> list[Document]:
    seeds = [row["id"] for row in documents("high_quality", 12)]
    return [Document(**{**row, "license": "", "repository": "synthetic", "seed_id": seeds[index]}) for index, row in enumerate(documents("synthetic", 6))]


def tokenize_summary() -> dict[str, Any]:
    sizes = {"standard": 30_000, "high_quality": 6_900, "synthetic": 900, "heldout": 5_000}
    tiers = {}
    for tier, tokens in sizes.items():
        some = {"documents": 5, "files": 20, "tokens": tokens // 2, "characters": tokens * 3 // 2}
        tiers[tier] = {
            **some,
            "documents": 9,
            "files": 40,
            "tokens": tokens,
            "characters_per_token": 3.0,
            "shards": 1,
            "languages": {"Python": some, "C++": some},
        }
    return {"tokens": sum(sizes.values()), "documents": 36, "files": 160, "vocabulary": 4096, "token_type": "uint16", "tiers": tiers}


def small_road(out: Path) -> dict[str, Path]:
    """Publish every artefact of a road below ``out``; folders by stage name, as the runner gives them to the report."""
    noise = random.Random(0)
    corpus_counts = {"documents_in": 160, "documents": 50, "bytes": 90_000, "drops": {"long lines": 20}}
    road = {
        "corpus": publish(
            out / "1-corpus",
            "corpus",
            corpus_counts,
            {"summary.json": corpus_summary(), "samples.jsonl": corpus_samples(), "standard": documents("standard", 40), "heldout": documents("heldout", 8)},
        ),
        "tokenizer": publish(out / "2-tokenizer", "tokenizer", {"vocabulary": 4096, "characters_per_token": {"Python": 3.1}}, {}),
        "annotate": publish(
            out / "3-annotate", "annotate", {"auc": 0.91, "selected": 20}, {"summary.json": annotation_summary(), "high_quality": documents("high_quality", 12)}
        ),
        "synthesize": publish(
            out / "4-synthesize",
            "synthesize",
            {"accepted": 6},
            {"summary.json": synthesis_summary(), "diversity.json": diversity(), "synthetic": synthetic_documents()},
        ),
        "tokenize": publish(out / "5-tokenize", "tokenize", tokenize_summary(), {"summary.json": tokenize_summary()}),
    }
    for phase in PHASES:
        counts = {"tokens": STEPS[phase] * STEP_TOKENS, "parameters": 1_234_567, "vocabulary": 4096, "passes": dict.fromkeys(PHASES[phase], 1.5), "loss": 4.2}
        files = {"metrics.jsonl": metrics(phase, noise), "validation.jsonl": validation(phase), "summary.json": counts}
        road[f"train {phase}"] = publish(out / "6-train" / phase, "train", counts, files)
    for phase in PHASES:
        road[f"convert {phase}"] = publish(out / "7-convert" / phase, "convert", {"tensors": 30, "bytes": 2_000_000}, {})
    for phase in PHASES:
        road[f"evaluate {phase}"] = publish(out / "8-evaluate" / phase, "evaluate", {"passed": 1}, {"results.json": results(phase)})
    return road
