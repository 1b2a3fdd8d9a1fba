import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.calibration import Calibrator
from megatron_snow.quality.head import LinearHead, train_head
from megatron_snow.quality.heads import Heads, load_heads
from megatron_snow.quality.settings import HeadSettings


@pytest.fixture(scope="module")
def data():
    """Overlapping classes in 8 dimensions of very different scale and offset; one to three sections a file."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 4, 400)
    positive = random.random(400) < 0.4
    scale, offset = 10.0 ** np.arange(-4, 4), np.linspace(-5, 5, 8)
    vectors = (random.normal(size=(counts.sum(), 8)) + 0.8 * np.repeat(positive, counts)[:, None]) * scale + offset
    return vectors.astype(np.float32), counts, positive


def log_loss(scores, labels, weights):
    return float(-(weights * np.where(labels, np.log(scores), np.log1p(-scores))).sum() / weights.sum())


def test_the_head_reaches_the_optimum_of_logistic_regression(data):
    vectors, counts, positive = data
    trained = train_head(vectors, counts, positive, HeadSettings(epochs=200, learning_rate=0.05, batch=64), 0)
    head, losses = trained.head, trained.losses
    labels, weights = np.repeat(positive, counts), np.repeat(1 / counts, counts)
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    reference = LogisticRegression(C=1e6, max_iter=10_000).fit(standard, labels, sample_weight=weights)
    best = log_loss(reference.predict_proba(standard)[:, 1], labels, weights)
    found = log_loss(head.section_scores(vectors), labels, weights)
    assert best - 1e-6 <= found < best + 2e-3
    assert len(losses) == 200 and losses[-1] == pytest.approx(found, rel=0.02)


def test_training_is_reproducible_and_depends_on_the_seed(data):
    heads = [train_head(*data, HeadSettings(epochs=2), seed).head for seed in (1, 1, 2)]
    assert np.array_equal(heads[0].weight, heads[1].weight) and heads[0].bias == heads[1].bias
    assert not np.array_equal(heads[0].weight, heads[2].weight)


def test_a_constant_feature_does_no_harm(data):
    vectors = np.concatenate([data[0], np.full((len(data[0]), 1), 3.0, dtype=np.float32)], axis=1)
    head = train_head(vectors, *data[1:], HeadSettings(epochs=3), 0).head
    assert np.isfinite(head.section_scores(vectors)).all()


def test_a_files_score_is_the_mean_of_its_sections_and_of_nothing_else():
    head = LinearHead(np.array([1.0, -2.0], dtype=np.float32), 0.5)
    vectors = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-(vectors[:, 0] - 2 * vectors[:, 1] + 0.5)))
    scores = head.file_scores(vectors, np.array([1, 3, 2]))
    np.testing.assert_allclose(scores, [sigmoid[0], sigmoid[1:4].mean(), sigmoid[4:].mean()], rtol=1e-6)
    assert head.file_scores(vectors[1:4], np.array([3]))[0] == scores[1]
    assert len(head.file_scores(vectors[:0], np.array([], dtype=int))) == 0


def test_a_saved_head_scores_the_same(data, tmp_path):
    head = train_head(*data, HeadSettings(epochs=1), 0).head
    heads = Heads({"*": head, "C": LinearHead(-head.weight, 0.0)}, {"*": Calibrator("platt", np.array([1.3]), np.array([0.2]))})
    heads.save(tmp_path / "head.safetensors", {"encoder": "e"})
    again, about = load_heads(tmp_path / "head.safetensors")
    assert about == {"encoder": "e", "task": "classification"} and again.digest == heads.digest
    languages = ["C" if i % 3 else "Go" for i in range(len(data[1]))]
    scores = again.file_scores(*data[:2], languages)
    assert np.array_equal(scores, heads.file_scores(*data[:2], languages))
    assert np.array_equal(again.probability(scores, languages), heads.probability(scores, languages), equal_nan=True)


def test_a_damaged_head_is_refused(tmp_path):
    (tmp_path / "head.safetensors").write_bytes(b"no")
    with pytest.raises(SnowError, match="not an annotator's head"):
        load_heads(tmp_path / "head.safetensors")
