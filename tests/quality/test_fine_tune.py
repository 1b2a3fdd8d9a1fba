"""Fine-tuning a small encoder of the real architecture."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.fine_tune import fine_tune
from megatron_snow.quality.labelled import NEGATIVE, Example


@pytest.fixture(scope="module")
def files(documents):
    """Is it C? A question that random features answer badly and trained ones well."""
    chosen = documents[::2]
    return [
        (Example(d["id"], d["repository"] + str(i % 5), d["language"], 0 if d["language"] == "C" else NEGATIVE, float(d["language"] == "C")), d["text"][:400])
        for i, d in enumerate(chosen)
    ]


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_loss_falls_and_the_seed_decides(settings, files, tmp_path):
    chosen = settings(fine_tune={"epochs": 8, "learning_rate": 2e-3, "batch": 16}, head={"validation": 0.3})
    encoder = SectionEncoder(chosen)
    found = [fine_tune(encoder, chosen, seed, files, tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert found[0]["losses"][-1] < 0.6 * found[0]["losses"][0] and found[0]["held_out_losses"][found[0]["best_epoch"] - 1] == min(found[0]["held_out_losses"])
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a) and any(not np.array_equal(a[name], c[name]) for name in a)
    tuned = SectionEncoder(chosen, str(tmp_path / "a"))  # it loads, and gives other vectors
    sections = encoder.sections([text for _, text in files[:4]])
    flat = [section for some in sections for section in some]
    assert not np.allclose(tuned.embed(flat), encoder.embed(flat), atol=1e-3)


def test_a_finished_one_is_not_done_again(settings, files, tmp_path):
    chosen = settings(fine_tune={"epochs": 1}, head={"validation": 0.3})
    encoder = SectionEncoder(chosen)
    first = fine_tune(encoder, chosen, 1, files, tmp_path / "e")
    stamp = (tmp_path / "e" / "model.safetensors").stat().st_mtime_ns
    assert fine_tune(encoder, chosen, 1, iter(()), tmp_path / "e") == first
    assert (tmp_path / "e" / "model.safetensors").stat().st_mtime_ns == stamp


def test_only_the_last_layers_change_where_asked(settings, files, small_encoder, tmp_path):
    chosen = settings(fine_tune={"epochs": 1, "learning_rate": 1e-3, "layers": 1}, head={"validation": 0.3})
    fine_tune(SectionEncoder(chosen), chosen, 1, files, tmp_path / "e")
    before, after = weights(small_encoder), weights(tmp_path / "e")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and all(name.startswith("encoder.layer.1.") for name in changed)


def test_more_layers_than_there_are_are_refused(settings, files, tmp_path):
    chosen = settings(fine_tune={"layers": 3}, head={"validation": 0.3})
    with pytest.raises(SnowError, match=r"fine_tune\.layers is 3, .* has 2 layers"):
        fine_tune(SectionEncoder(chosen), chosen, 1, files, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_learning_rate_that_breaks_it_is_told(settings, files, tmp_path):
    chosen = settings(fine_tune={"epochs": 2, "learning_rate": 1e30}, head={"validation": 0.3})
    with pytest.raises(SnowError, match=r"the loss is .*lower annotate\.fine_tune\.learning_rate"):
        fine_tune(SectionEncoder(chosen), chosen, 1, files, tmp_path / "e")
