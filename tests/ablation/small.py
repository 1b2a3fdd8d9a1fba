"""A study of two arms on the tiny recipe of the road's tests: no synthesis, a served model is not needed."""

from pathlib import Path
from typing import Any

import yaml

TINY = Path(__file__).parents[1] / "road" / "tiny.yaml"

STUDY: dict[str, Any] = {
    "name": "small",
    "title": "Two arms",
    "question": "does a second phase help?",
    "base": str(TINY),
    "seeds": [1, 2],
    "baseline": "alpha",
    "metrics": ["bits", "validation/heldout"],
    "resamples": 200,
    "scales": {
        "cpu": {
            "tokens": 8192,
            "values": {"peak": 2e-3},
            "set": {
                "corpus.sources": [{"kind": "stdlib", "only": ["json", "email", "http", "logging"], "max_bytes": "700KB"}],
                "train.validation.tiers": ["heldout", "standard"],
                "train.validation.samples": 4,
                "annotate.max_documents": 24,
                "evaluate.problem_limit": 4,
                "evaluate.max_new_tokens": 1,
                "evaluate.prompts": [],
                "evaluate.heldout_bytes": "2KiB",
                "evaluate.tier_bytes": "1KiB",
            },
        }
    },
    "arms": {
        "alpha": {"title": "one phase", "phases": ["general"], "set": {"train.phases.general.tokens": "100 % of $tokens"}},
        "beta": {
            "title": "two phases",
            "phases": ["general", "continued"],
            "set": {
                "train.phases.general.tokens": "50 % of $tokens",
                "train.phases.continued": {
                    "blend": {"standard": 1},
                    "tokens": "50 % of $tokens",
                    "batch": 8,
                    "micro_batch": 4,
                    "sequence": 128,
                    "max_epochs": 50,
                    "learning_rate": {"peak": "$peak", "warmup": "1 steps"},
                },
            },
        },
    },
}


def write(folder: Path, **changes: Any) -> Path:
    """The study as a file, with some of its keys changed."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path
