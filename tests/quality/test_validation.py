import numpy as np
import pytest

from megatron_snow.quality.validation import auc_standard_error, histogram, roc, validate


def pairs(positive, scores):
    """ROC-AUC by its definition: the share of (positive, negative) pairs in the right order, ties half."""
    good, bad = scores[positive], scores[~positive]
    return np.mean((good[:, None] > bad[None]) + 0.5 * (good[:, None] == bad[None]))


@pytest.fixture(scope="module")
def sample():
    random = np.random.default_rng(0)
    positive = random.random(400) < 0.3
    scores = np.round(np.clip(random.normal(0.5, 0.2, 400) + 0.1 * positive, 0, 1), 2)  # rounded: ties
    return positive, scores, random.choice(["C", "Go", "Python"], 400).tolist()


def test_auc_is_the_share_of_pairs_in_order(sample):
    positive, scores, _ = sample
    found = roc(positive, scores)
    assert found["auc"] == pytest.approx(pairs(positive, scores), abs=1e-12)
    assert (found["positives"], found["negatives"]) == (positive.sum(), 400 - positive.sum())


def test_the_area_under_the_points_is_the_auc(sample):
    points = np.array(roc(*sample[:2])["points"])
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1] and len(points) <= 200
    assert (np.diff(points, axis=0) >= 0).all()
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(roc(*sample[:2])["auc"], abs=5e-3)


def test_by_language_and_within_languages(sample):
    positive, scores, languages = sample
    found = validate(positive, scores, languages)
    right = total = 0.0
    for language in ("C", "Go", "Python"):
        part = np.array(languages) == language
        count = positive[part].sum() * (~positive[part]).sum()
        assert found["languages"][language]["auc"] == pytest.approx(pairs(positive[part], scores[part]))
        right, total = right + count * pairs(positive[part], scores[part]), total + count
    assert found["within_languages"] == pytest.approx(right / total)


def test_a_language_of_one_class_is_left_out():
    found = validate(np.array([True, False, True]), np.array([0.9, 0.1, 0.5]), ["C", "C", "Go"])
    assert list(found["languages"]) == ["C"]
    assert validate(np.array([True, False]), np.array([0.9, 0.1]), ["C", "Go"])["within_languages"] is None


def test_standard_error_of_the_worked_example():
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=1e-3)  # Hanley and McNeil 1982, page 32


def test_standard_error_agrees_with_resampling(sample):
    positive, scores, _ = sample
    random = np.random.default_rng(1)
    good, bad = scores[positive], scores[~positive]
    draws = [np.mean(random.choice(good, len(good))[:, None] > random.choice(bad, len(bad))[None]) for _ in range(400)]
    assert roc(positive, scores)["standard_error"] == pytest.approx(np.std(draws), rel=0.25)


def test_histogram_counts_every_file_once(sample):
    _, scores, languages = sample
    found = histogram(scores, np.array(languages))
    assert {language: sum(counts) for language, counts in found["languages"].items()} == {name: languages.count(name) for name in set(languages)}
    assert found["edges"][0] == 0 and found["edges"][-1] == 1 and len(found["edges"]) == 21
