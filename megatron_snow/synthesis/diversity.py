"""Is the synthetic tier new, varied and like real code? Against the files of its seeds and against the standard tier, as many of each.

Answers the questions that reviewers put to synthetic training data: how much is copied from the seeds, how alike the documents are among
each other, which topics, languages, libraries and lengths they drift to. Each number stands beside the same one of real files, and each
divergence beside that of two halves of the standard tier: the noise at this sample size.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.progress import say
from megatron_snow.signatures.diversity import effective, vendi_score
from megatron_snow.synthesis import spread
from megatron_snow.synthesis.settings import DiversitySettings

if TYPE_CHECKING:
    from megatron_snow.quality.settings import AnnotateSettings

_OVERLAP = 5  # words of the n-grams whose overlap is counted: those of the near-duplicate rule
_FEWEST = 8  # documents (ours: below, every number is noise)
_COMMON = 15  # imports shown of each set
_TOPIC_WORDS = 6
_LENGTHS = [0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]  # characters, lower edges: powers of two
_DIMENSIONS = ("languages", "lengths", "imports", "words", "topics")


@dataclass(frozen=True)
class Sets:
    """Documents to compare. ``synthetic[i]`` was seeded by ``snippets[i]``, lines of ``seeds[i]``."""

    synthetic: list[Document]
    snippets: list[str]
    seeds: list[Document]
    standard: list[Document]

    def named(self) -> dict[str, list[Document]]:
        """Those that there are, by name."""
        return {name: rows for name, rows in (("synthetic", self.synthetic), ("seeds", self.seeds), ("standard", self.standard)) if rows}


def sample(documents: Iterable[Document], count: int, seed: int) -> list[Document]:
    """A random ``count`` of a tier in one pass, whatever its order: those with the smallest of random numbers drawn from their ids."""
    drawn = ((-random.Random(f"{seed}/diversity/{row['id']}").random(), row["id"], row) for row in documents)
    return [row for _, _, row in sorted(heapq.nlargest(count, drawn, key=lambda entry: entry[:2]), key=lambda entry: entry[1])]


def diversity(sets: Sets, settings: DiversitySettings, encoder: AnnotateSettings | None, seed: int) -> dict[str, Any] | None:
    """``diversity.json``; None where there are too few documents. ``encoder``: the annotator's, None: no embeddings, no topics.

    Raises SnowError where the encoder cannot be loaded.
    """
    named = sets.named()
    if len(sets.synthetic) < _FEWEST:
        return None
    split = {name: [spread.words(row["text"]) for row in rows] for name, rows in named.items()}
    budget = min(sum(map(len, texts)) for texts in split.values())
    result: dict[str, Any] = {
        "documents": len(sets.synthetic), "sets": list(named), "words": budget,
        "distinct": {name: {str(n): spread.distinct(texts, n, budget) for n in (1, 2, 3, 4)} for name, texts in split.items()},
        "self_overlap": {name: spread.summary(spread.self_overlap(texts, _OVERLAP)) for name, texts in split.items()},
        "seed_overlap": _seed_overlap(sets, split), "embedding": None, "topics": None,
    }  # fmt: skip
    counts = {name: _counts(rows, split[name]) for name, rows in named.items()}
    if encoder is not None:
        vectors = _vectors(named, encoder)
        result["embedding"] = {"encoder": encoder.encoder} | _embedding(vectors)
        result["topics"], topics = _topics(vectors, split, seed)
        for name, labels in topics.items():
            counts[name]["topics"] = Counter(map(str, labels))
            for row, label in zip(counts[name]["rows"], labels, strict=True):
                row["topics"] = Counter([str(label)])
    result["divergence"] = {what: _divergences(counts, what, seed) for what in _DIMENSIONS if what in counts["synthetic"]}
    result["languages"] = {name: _shares(own["languages"]) for name, own in counts.items()}
    result["lengths"] = {"bins": _LENGTHS} | {name: [own["lengths"][str(edge)] / len(named[name]) for edge in _LENGTHS] for name, own in counts.items()}
    result["imports"] = {name: [[word, share / len(named[name])] for word, share in own["imports"].most_common(_COMMON)] for name, own in counts.items()}
    result["warnings"] = _warnings(result, settings)
    for warning in result["warnings"]:
        say(f"  warning: {warning}")
    return result


def _seed_overlap(sets: Sets, split: Mapping[str, list[list[str]]]) -> dict[str, Any]:
    pairs = zip(sets.snippets, split["synthetic"], strict=True)
    lines = [spread.contained(spread.words(snippet), text, _OVERLAP) for snippet, text in pairs]
    files = [spread.contained(text, file, _OVERLAP) for text, file in zip(split["synthetic"], split.get("seeds", []), strict=False)]
    return {name: spread.summary([value for value in values if value is not None]) for name, values in (("lines", lines), ("file", files))}


def _counts(rows: list[Document], texts: list[list[str]]) -> dict[str, Any]:
    """Distributions of a set, and of each of its documents (``rows``)."""
    own = []
    for row, text in zip(rows, texts, strict=True):
        edge = max(edge for edge in _LENGTHS if edge <= len(row["text"]))
        own.append(
            {"languages": Counter([row["language"]]), "lengths": Counter([str(edge)]), "imports": Counter(spread.imports(row["text"])), "words": Counter(text)}
        )
    return {what: sum((one[what] for one in own), Counter()) for what in _DIMENSIONS if what != "topics"} | {"rows": own}


def _divergences(counts: Mapping[str, dict[str, Any]], what: str, seed: int) -> dict[str, float | None]:
    result = {f"synthetic to {name}": spread.divergence(counts["synthetic"][what], own[what]) for name, own in counts.items() if name != "synthetic"}
    if "standard" in counts:
        rows = list(counts["standard"]["rows"])
        random.Random(seed).shuffle(rows)
        half = len(rows) // 2
        result["standard to itself"] = spread.divergence(*(sum((row[what] for row in part), Counter()) for part in (rows[:half], rows[half:])))
    return result


def _vectors(named: Mapping[str, list[Document]], settings: AnnotateSettings) -> dict[str, np.ndarray]:
    """Unit vectors of the documents: the mean of their sections'."""
    from megatron_snow.quality.encoder import SectionEncoder  # here: it brings torch, which most of synthesis does without

    encoder = SectionEncoder(settings)
    result = {}
    for name, rows in named.items():
        sections = encoder.sections([row["text"] for row in rows])
        flat = encoder.embed([section for own in sections for section in own])
        ends = np.cumsum([len(own) for own in sections])
        means = np.stack([part.mean(axis=0) for part in np.split(flat, ends[:-1])])
        result[name] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return result


def _embedding(vectors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    synthetic = vectors["synthetic"]
    found = {f"{name} to {name}": spread.nearest(own, own, same=True) for name, own in vectors.items()}
    found |= {f"synthetic to {name}": spread.nearest(synthetic, own) for name, own in vectors.items() if name != "synthetic"}
    if "seeds" in vectors:
        found["own seed"] = (synthetic * vectors["seeds"]).sum(axis=1)
    return {
        "nearest": {pair: spread.summary(values) for pair, values in found.items()}, "vendi": {name: vendi_score(own) for name, own in vectors.items()},
        "histogram": {pair: np.histogram(np.clip(values, 0, 1), bins=20, range=(0, 1))[0].tolist() for pair, values in found.items()},
    }  # fmt: skip


def _topics(vectors: Mapping[str, np.ndarray], split: Mapping[str, list[list[str]]], seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Clusters of all documents together, each set's shares, and what sets each cluster's words apart; and each document's cluster."""
    from sklearn.cluster import KMeans

    together = np.concatenate(list(vectors.values()))
    count = max(2, min(50, len(vectors["synthetic"]) // 8))  # ours: eight documents of each set in a cluster on average
    labels = KMeans(count, n_init=4, random_state=seed % 2**32).fit_predict(together)
    ends = np.cumsum([len(own) for own in vectors.values()])
    by_set = dict(zip(vectors, np.split(labels, ends[:-1]), strict=True))
    shares = {name: np.bincount(own, minlength=count) / len(own) for name, own in by_set.items()}
    texts = [{word.lower() for word in text if len(word) > 2 and word[0].isalpha()} for name in vectors for text in split[name]]
    everywhere = Counter(word for text in texts for word in text)
    words = []
    for cluster in range(count):
        members = [text for text, label in zip(texts, labels, strict=True) if label == cluster]
        inside = Counter(word for text in members for word in text)
        score = {word: found / len(members) - everywhere[word] / len(texts) for word, found in inside.items()}
        words.append(sorted(score, key=lambda word: (-score[word], word))[:_TOPIC_WORDS])
    return {
        "clusters": count, "shares": {name: own.tolist() for name, own in shares.items()}, "words": words,
        "effective": {name: effective(own.tolist()) for name, own in shares.items()}, "empty": {name: int((own == 0).sum()) for name, own in shares.items()},
    }, by_set  # fmt: skip


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {name: count / total for name, count in counts.most_common()}


def _warnings(result: Mapping[str, Any], settings: DiversitySettings) -> list[str]:
    """What a reader should know, with the number and its threshold."""
    found = []
    own = result["self_overlap"]["synthetic"]
    if own and own["mean"] > settings.most_self_overlap:
        found.append(
            f"low diversity: {own['mean']:.0%} of a synthetic document's word {_OVERLAP}-grams are in another one ({settings.most_self_overlap:.0%} allowed)"
        )
    copied = result["seed_overlap"]["file"]
    if copied and copied["mean"] > settings.most_copied:
        found.append(
            f"little is new: {copied['mean']:.0%} of a synthetic document's word {_OVERLAP}-grams are in its seed's file ({settings.most_copied:.0%} allowed)"
        )
    for what, values in result["divergence"].items():
        value, noise = values.get("synthetic to standard"), values.get("standard to itself")
        if what in ("imports", "topics") and value is not None and noise is not None and value - noise > settings.most_divergence:
            found.append(
                f"synthetic bias: {what} are {value:.2f} bits from the standard tier's, which is {noise:.2f} bits from itself "
                f"({settings.most_divergence:g} more allowed)"
            )
    return found
