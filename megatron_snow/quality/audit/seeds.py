"""How much of an annotator is chance: the same settings, other seeds for samples, split and head."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.quality.audit.scorer import Scorer
from megatron_snow.quality.labelled import read_labelled
from megatron_snow.quality.scoring import embed_labelled
from megatron_snow.quality.survey import take_survey
from megatron_snow.quality.training import train_annotator

_TOP = 0.1  # share of the files whose overlap is compared (ours)


def ablate_seeds(
    scorer: Scorer, corpus: Path, count: int, embedded: tuple[np.ndarray, np.ndarray], languages: list[str], scores: np.ndarray, parts: Path
) -> dict[str, Any]:
    """Train ``count`` annotators with seeds that follow the artefact's own and compare their scores of the same files with each other's and its.

    ``embedded``: (vectors, counts) of the files, ``scores`` the artefact's of them. Parts of a killed run below ``parts`` are used.
    Raises SnowError where the encoder was fine-tuned: another seed is another encoder, thus a whole run.
    """
    from scipy.stats import spearmanr

    if scorer.settings.fine_tune:
        raise SnowError("--seeds: this encoder was fine-tuned, and another seed makes another one; run 'snow annotate' with other seeds and use --against")
    seeds = [scorer.manifest.seed]
    aucs = [float(scorer.manifest.counts["auc"])]
    every = [scores]
    for seed in range(seeds[0] + 1, seeds[0] + 1 + count):
        say(f"  annotator of seed {seed}")
        survey = take_survey(scorer.settings, seed, corpus / "standard")
        total = survey.labelled(scorer.settings)
        labelled = embed_labelled(scorer.crew, read_labelled(scorer.settings, seed, corpus / "standard", survey), total, parts / f"seed-{seed}")
        heads, _, summary = train_annotator(labelled, scorer.settings, seed)
        seeds.append(seed)
        aucs.append(summary["validation"]["auc"])
        every.append(heads.file_scores(*embedded, languages))
    tops = [set(np.argsort(-some, kind="stable")[: max(1, round(_TOP * len(some)))].tolist()) for some in every]
    pairs = list(itertools.combinations(range(len(every)), 2))
    between = [float(spearmanr(every[a], every[b]).statistic) for a, b in pairs]
    overlaps = [len(tops[a] & tops[b]) / len(tops[a] | tops[b]) for a, b in pairs]
    return {
        "seeds": seeds,
        "auc": aucs,
        "files": len(scores),
        "spearman_between": {"mean": float(np.mean(between)), "least": min(between)},
        "selected_overlap": {"mean": float(np.mean(overlaps)), "least": min(overlaps), "share": _TOP},
    }
