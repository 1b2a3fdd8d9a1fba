import math

import numpy as np
import pytest

from megatron_snow.quality.audit.traits import correlations, explained, traits


def document(text, language="Python", path="a/b.py", repository="r"):
    return {"id": f"{repository}/{path}/{len(text)}", "text": text, "language": language, "repository": repository, "path": path, "license": "", "source": "s"}


def test_traits_of_a_file_counted_by_hand():
    text = '# Copyright 2020\n\ndef f():\n    """One\n    two."""\n    # why\n    return 1\n'
    found = traits(document(text, path="pkg/tests/test_a.py"))
    assert found["characters"] == len(text) and found["lines"] == 8
    assert found["docstring_share"] == pytest.approx(2 / 6) and found["comment_share"] == pytest.approx(3 / 5)
    assert found["licence_header"] == 1 and found["test_path"] == 1
    plain = traits(document("int a;\n", "C", "latest/contest.c"))
    assert plain["licence_header"] == plain["test_path"] == plain["comment_share"] == 0 and math.isnan(plain["docstring_share"])
    assert math.isnan(traits(document("x", "Brainfuck"))["comment_share"])


def test_a_score_that_is_the_length_is_found_out():
    documents = [document("x = 1\n" * (i + 1), repository=f"r{i}") for i in range(40)]
    scores = np.arange(40.0)
    rows = {(row["trait"], row["language"]): row for row in correlations(documents, scores, 100, 0)}
    assert rows["lines", None]["value"] == pytest.approx(1) and rows["lines", "Python"]["files"] == 40
    assert rows["lines", None]["interval"][0] > 0.99
    assert ("licence_header", None) not in rows  # the same for all: no rank to speak of


def test_what_groups_explain():
    random = np.random.default_rng(0)
    groups = [f"g{i % 50}" for i in range(500)]
    assert abs(explained(groups, random.normal(size=500))) < 0.06  # fifty groups of noise explain nothing once corrected
    assert explained(groups, np.array([int(group[1:]) for group in groups], dtype=float)) == pytest.approx(1, abs=1e-6)
    assert explained(["a"] * 9, random.normal(size=9)) is None and explained([str(i) for i in range(9)], random.normal(size=9)) is None
