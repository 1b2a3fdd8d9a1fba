"""What the annotators of a study's arms are worth, all by one measure: each ranks the same benchmarks' solutions against the same random files.

That is the paper's proxy (figure 2). The held-out files that an annotator reports itself are of its own kind of positives, so
that arms taught by different files are not comparable by them. The random files are Python files of the corpus's held-out tier, whose
repositories no annotator learns from. An arm that trains on no tier that an annotator had a hand in has none, even where one was made.

The ROC-AUC is given as items, so that the study's statistics hold for it: with V the share of the other side that a solution or file is ranked
rightly against (ties half), and N = m solutions + n files, a solution counts AUC + N/m (V - AUC), a file AUC + N/n (V - AUC). Their mean is the
ROC-AUC and the variance of the mean DeLong's, paired between annotators (Biometrics 44, 1988); the files of a repository are one item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from megatron_snow.ablation.arms import Unit
from megatron_snow.ablation.metrics import RunMetrics
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import digest
from megatron_snow.benchmarks.settings import BenchmarkSettings
from megatron_snow.recipe.settings import Recipe
from megatron_snow.recipe.stage import Road

FORMAT = 1  # of what is kept; another one is made again
FILES = 200  # random files, at most (ours: with HumanEval's 164 solutions a standard error of 0.02 to 0.03, some seconds on two cores)
_FEWEST = 20  # for anything to be said (ours, as the audit's)
_SEED = 0  # of the draw: the same files for every arm, whatever its seeds
_TIERS = {"high_quality", "synthetic"}  # an annotator chose the one, and what the other is written from


def add(runs: Mapping[tuple[str, int], RunMetrics], units: Sequence[Unit], roads: Mapping[tuple[str, int], Road], out: Path) -> list[str]:
    """Add ``annotator/<benchmark>`` to the finished runs (arm, seed) that have an annotator; ``out/annotators`` keeps the scores for the next time.

    Returns why there is none of an annotator, for the page. Raises SnowError where ``out`` cannot be written to.
    """
    recipes = {(unit.arm, unit.seed): unit.recipe for unit in units}
    judged = {key: road for key, road in roads.items() if "annotate" in road.stages and _owes(recipes[key])}
    one_corpus = len({road.folder("corpus") for road in judged.values()}) == 1  # else other seeds or arms saw other files
    tried: dict[tuple[Path, tuple[BenchmarkSettings, ...]], dict[str, Any] | str] = {}
    reasons: dict[str, list[str]] = {}
    for key, road in judged.items():
        asked = road.folder("annotate"), recipes[key].evaluate.benchmarks
        if asked not in tried:
            try:
                tried[asked] = _ranked(road, asked[1], out / "annotators")
            except SnowError as error:  # an encoder that is not at hand is no reason to withhold all other results
                tried[asked] = str(error)
        ranked = tried[asked]
        if isinstance(ranked, str):
            reasons.setdefault(ranked, []).append(f"{key[0]}/seed-{key[1]}")
            continue
        for name, solutions in ranked["solutions"].items():
            found = list(items(f"{name}/", np.array(solutions), np.array(ranked["scores"]), ranked["repositories"]))
            if not one_corpus:
                found = [("", float(np.mean([value for _, value in found])))]
            for item, value in found:
                runs[key].add(f"annotator/{name}", item, value)
    return [f"No ROC-AUC of the annotator of {', '.join(names)}: {why}" for why, names in reasons.items()]


def _owes(recipe: Recipe) -> bool:
    return any(_TIERS & phase.mix.keys() for phase in recipe.train.phases.values())


def items(prefix: str, solutions: np.ndarray, files: np.ndarray, repositories: Sequence[str]) -> Iterator[tuple[str, float]]:
    """(item, amount) of each solution and file, from their scores (float64 [m] and [n]) and the files' repositories; the mean is the ROC-AUC."""
    wins = (solutions[:, None] > files).astype(np.float64) + 0.5 * (solutions[:, None] == files)
    auc, whole = wins.mean(), sum(wins.shape)
    for number, share in enumerate(wins.mean(1)):
        yield f"{prefix}{number}", float(auc + whole / len(solutions) * (share - auc))
    for repository, share in zip(repositories, wins.mean(0), strict=True):
        yield f"unseen {repository}", float(auc + whole / len(files) * (share - auc))


def _ranked(road: Road, benchmarks: Sequence[BenchmarkSettings], kept: Path) -> dict[str, Any]:
    """``solutions``: benchmark -> scores; ``scores`` and ``repositories`` of the random files. Read where it is kept, made where not.

    Raises SnowError where the encoder, a benchmark or files enough cannot be had.
    """
    corpus, folder = road.folder("corpus"), road.folder("annotate")
    manifests = [manifest for manifest in (read_manifest(corpus), read_manifest(folder)) if manifest is not None]
    made_of = [FORMAT, FILES, [one.fingerprint for one in manifests], [[one.model_dump(mode="json"), one.fingerprint()] for one in benchmarks]]
    path = kept / f"{digest(made_of)[:16]}.json"
    if path.exists():
        try:
            found: dict[str, Any] = orjson.loads(path.read_bytes())
            return found
        except orjson.JSONDecodeError:
            say(f"  {path} is damaged and made again")
    from megatron_snow.quality.audit.scorer import Scorer
    from megatron_snow.quality.audit.solutions import PYTHON, rank
    from megatron_snow.quality.audit.unseen import held_out

    files = held_out(corpus, PYTHON, FILES, _SEED)
    if len(files) < _FEWEST:
        raise SnowError(f"the corpus's held-out tier has {len(files)} {PYTHON} files, {_FEWEST} are needed; raise corpus.heldout_fraction")
    problems = {one.name: one.load() for one in benchmarks}
    with Scorer(folder) as scorer:
        solutions, scores = rank(scorer, problems, files)
    found = {
        "annotator": str(folder.name),
        "solutions": {name: values.tolist() for name, values in solutions.items()},
        "scores": scores.tolist(),
        "repositories": [file["repository"] for file in files],
    }
    try:
        kept.mkdir(parents=True, exist_ok=True)
        write_atomically(path, orjson.dumps(found))
    except OSError as error:
        raise SnowError(f"cannot write to {kept}: {error.strerror}") from error
    return found
