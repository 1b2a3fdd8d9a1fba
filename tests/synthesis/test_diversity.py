"""Measures against closed forms, and the report told apart good sets from bad ones."""

import json
import math
import random

import numpy as np
import pytest

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.signatures.diversity import effective, vendi_score
from megatron_snow.synthesis import spread, synthesize
from megatron_snow.synthesis.diversity import Sets, diversity, sample
from megatron_snow.synthesis.settings import DiversitySettings
from tests.synthesis.conftest import DECONTAMINATION, document, settings

ENCODER = AnnotateSettings(encoder="fixture:all-MiniLM-L6-v2", pooling="mean", section=64, workers=1)


def test_distinct_by_hand():
    texts = [["a", "b", "a", "b"], ["a", "b", "c"]]
    assert spread.distinct(texts, 1, 100) == 3 / 7 and spread.distinct(texts, 2, 100) == 3 / 5
    assert spread.distinct(texts, 1, 5) == 2 / 5  # the first five words
    assert spread.distinct([["a"]], 2, 100) is None


def test_overlap_by_hand():
    assert spread.self_overlap([list("abc"), list("bcd"), list("xyz"), list("q")], 2) == [1 / 2, 1 / 2, 0.0]
    assert spread.contained(list("abcd"), list("bcx"), 2) == 1 / 3 and spread.contained(list("a"), list("ab"), 2) is None


def test_divergence_by_hand():
    assert spread.divergence({"a": 1}, {"b": 5}) == pytest.approx(1)
    assert spread.divergence({"a": 2, "b": 2}, {"a": 30, "b": 30}) == pytest.approx(0)
    by_hand = (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25) + math.log2(1 / 0.75)) / 2
    assert spread.divergence({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(by_hand)
    assert spread.divergence({}, {"a": 1}) is None


def test_effective_numbers():
    """Identical vectors are one, orthogonal ones as many as they are; either Gram matrix gives the same."""
    assert vendi_score(np.eye(4)) == pytest.approx(4) and vendi_score(np.tile([1.0, 0, 0], (6, 1))) == pytest.approx(1)
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(vectors @ vectors.T / 30)
    values = values[values > 1e-12]
    assert vendi_score(vectors) == pytest.approx(math.exp(-(values * np.log(values)).sum()))
    assert effective([5, 5, 5]) == pytest.approx(3) and effective([7, 0]) == pytest.approx(1)


def test_nearest_leaves_out_itself():
    vectors = np.array([[1.0, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    assert spread.nearest(vectors, vectors, same=True) == pytest.approx([0.6, 0.8, 0.8])
    assert spread.nearest(vectors, vectors) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import os.path\nfrom re import sub\n  import json", ["json", "os", "re"]), ('#include <stdio.h>\n# include "own.h"', ["own.h", "stdio.h"]),
        ("const fs = require('fs')\nimport {a} from \"b\"", ["b", "fs"]), ("use serde::Deserialize;", ["serde"]), ("using System.Text;", ["System.Text"]),
        ('import "fmt"\n', ["fmt"]), ("x = 'import nothing'", []),
    ],
)  # fmt: skip
def test_imports(text, names):
    assert spread.imports(text) == names


def test_a_sample_does_not_depend_on_the_order():
    rows = [document(i) for i in range(50)]
    drawn = sample(rows, 10, 1)
    random.Random(0).shuffle(rows)
    assert sample(rows, 10, 1) == drawn and len({row["id"] for row in drawn}) == 10 and sample(rows, 10, 2) != drawn
    assert len(sample(rows, 99, 1)) == 50


VOCABULARY = [f"{a}{b}" for a in ("read", "write", "sort", "merge", "parse", "send", "draw", "count") for b in ("Line", "Tree", "Graph", "Page", "File", "Row")]


def varied(i: int, topic: str = "") -> str:
    rng = random.Random(f"{i}/{topic}")
    return f"import {topic or rng.choice(VOCABULARY[:4])}\n" + "\n".join(
        f"{rng.choice(VOCABULARY)}({rng.choice(VOCABULARY)}, {rng.randrange(99)})" for _ in range(30)
    )


def sets(synthetic: list[str], seeds: list[str]) -> Sets:
    made = [document(i, text=text) for i, text in enumerate(synthetic)]
    sources = [document(1000 + i, text=text) for i, text in enumerate(seeds)]
    return Sets(made, [text[:200] for text in seeds], sources, [document(2000 + i, text=varied(5000 + i)) for i in range(len(made))])


def test_copies_and_monotony_are_told_from_variety():
    seeds = [varied(100 + i) for i in range(32)]
    good = diversity(sets([varied(i) for i in range(32)], seeds), DiversitySettings(), None, 1)
    copied = diversity(sets(seeds, seeds), DiversitySettings(), None, 1)
    monotonous = diversity(sets([varied(0, "same") + f"\n# {i}" for i in range(32)], seeds), DiversitySettings(), None, 1)
    assert good and copied and monotonous and good["warnings"] == []
    assert copied["seed_overlap"]["file"]["mean"] == 1 and any(text.startswith("little is new: 100%") for text in copied["warnings"])
    assert 3 * monotonous["distinct"]["synthetic"]["4"] < good["distinct"]["synthetic"]["4"]
    assert [text.split(":")[0] for text in monotonous["warnings"]] == ["low diversity", "synthetic bias"]
    assert good["divergence"]["lengths"]["synthetic to standard"] == pytest.approx(good["divergence"]["lengths"]["standard to itself"], abs=0.2)
    assert diversity(sets([varied(i) for i in range(7)], seeds[:7]), DiversitySettings(), None, 1) is None


def test_embeddings_and_topics_of_real_vectors():
    """A real encoder: sorting and network code fall into other clusters, copies have a neighbour at 1."""

    def text(i: int) -> str:
        if i % 2:
            return f"def sort_{i}(numbers):\n    for left in range(len(numbers)):\n        numbers[left], numbers[{i}] = numbers[{i}], numbers[left]\n"
        return f"def fetch_{i}(host, port={i}):\n    connection = socket.create_connection((host, port))\n    connection.sendall(b'GET / HTTP/1.1')\n"

    texts = [text(i) for i in range(16)]
    found = diversity(sets(texts, texts), DiversitySettings(), ENCODER, 1)
    assert found and found["embedding"]["nearest"]["own seed"]["mean"] == pytest.approx(1, abs=1e-3)
    assert found["embedding"]["nearest"]["synthetic to seeds"]["median"] == pytest.approx(1, abs=1e-3)
    assert 1 < found["embedding"]["vendi"]["synthetic"] < 16
    topics = found["topics"]
    assert topics["clusters"] == 2 and topics["shares"]["synthetic"] == topics["shares"]["seeds"]
    assert found["divergence"]["topics"]["synthetic to seeds"] == 0
    assert sum(found["embedding"]["histogram"]["own seed"]) == 16
    json.dumps(found)


def test_the_arrow_writes_it(serve, quality, tokenizer, work, tmp_path):
    write_documents(tmp_path / "standard", [document(i, language) for language in ("C", "Java", "Python") for i in range(100, 130)])
    synthesize(settings(serve(), requests=20), 1, quality, tokenizer, work, DECONTAMINATION, standard=tmp_path / "standard")
    found = json.loads((work / "diversity.json").read_text())
    assert found["documents"] == 20 and found["sets"] == ["synthetic", "seeds", "standard"] and found["embedding"] is None
    assert found["languages"]["synthetic"]["Python"] == 0.5 and set(found["divergence"]) == {"languages", "lengths", "imports", "words"}
