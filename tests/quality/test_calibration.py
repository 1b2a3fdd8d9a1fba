import numpy as np
import pytest
from scipy.optimize import minimize

from megatron_snow.quality.calibration import Calibrator, cross_fitted, fit, reliability


@pytest.fixture(scope="module")
def miscalibrated():
    """Scores whose true probability is sigmoid(0.5 logit + 0.7), and labels drawn from that."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    truth = 1 / (1 + np.exp(-(0.5 * logits + 0.7)))
    return 1 / (1 + np.exp(-logits)), random.random(len(logits)) < truth, truth


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_the_true_probabilities_are_found(miscalibrated, kind):
    scores, positive, truth = miscalibrated
    found = fit(kind, scores, positive)(scores)
    assert np.abs(found - truth).mean() < 0.02 < np.abs(scores - truth).mean()
    order = np.argsort(scores)
    assert (np.diff(found[order]) >= 0).all()


def test_platt_is_the_maximum_likelihood_of_his_targets(miscalibrated):
    scores, positive, _ = (part[:300] for part in miscalibrated)
    target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    logit = np.log(scores / (1 - scores))

    def cost(ab):
        z = ab[0] * logit + ab[1]
        return (np.logaddexp(0, z) - target * z).sum()

    best = minimize(cost, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    found = fit("platt", scores, positive)
    assert found.knots[0] == pytest.approx(best[0], rel=1e-3) and found.values[0] == pytest.approx(best[1], abs=1e-3)


def test_a_separable_sample_gets_a_finite_slope():
    found = fit("platt", np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert np.isfinite([found.knots[0], found.values[0]]).all() and 0 < found(np.array([0.1]))[0] < 0.5 < found(np.array([0.9]))[0] < 1


def test_reliability_counts_by_hand():
    probability, positive = np.array([0.05, 0.05, 0.95, 0.95, 1.0]), np.array([False, True, True, True, True])
    found = reliability(probability, positive)
    assert found["brier"] == pytest.approx((0.05**2 + 0.95**2 + 2 * 0.05**2) / 5)
    assert [(one["from"], one["files"], one["observed"]) for one in found["bins"]] == [(0.0, 2, 0.5), (0.9, 3, 1.0)]
    assert found["error"] == pytest.approx(0.45 * 2 / 5 + (1 - (0.95 * 2 + 1) / 3) * 3 / 5)


def test_cross_fitting_never_judges_a_file_by_itself():
    """Labels that are noise: isotonic regression on itself looks better than chance, cross-fitted it does not."""
    random = np.random.default_rng(1)
    scores, positive = random.random(200), random.random(200) < 0.5
    groups = [f"r{i % 40}" for i in range(200)]
    itself = reliability(fit("isotonic", scores, positive)(scores), positive)["brier"]
    crossed = cross_fitted("isotonic", scores, positive, groups, 0)
    assert itself < 0.25 < reliability(crossed, positive)["brier"]
    assert np.array_equal(crossed, cross_fitted("isotonic", scores, positive, groups, 0))
    assert cross_fitted("isotonic", scores, positive, ["one"] * 200, 0) is None


def test_isotonic_is_flat_outside_its_knots():
    found = Calibrator("isotonic", np.array([0.2, 0.6]), np.array([0.1, 0.9]))
    assert found(np.array([0.0, 0.4, 1.0])).tolist() == pytest.approx([0.1, 0.5, 0.9])
