"""Sections in packs: the bits of each alone in a pack of that size, whatever lies beside it, and what the plain model gives."""

import random

import numpy as np
import pytest
import torch

from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.packs import Pack, best_fit, capacity, plan
from megatron_snow.quality.settings import AnnotateSettings


@pytest.mark.parametrize("seed", range(5))
def test_bins_hold_everything_once_and_waste_little(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(2, 512) for _ in range(800)] + [512] * 400
    bins = best_fit(lengths, 1024)
    assert sorted(i for found in bins for i in found) == list(range(len(lengths)))
    sizes = [sum(lengths[i] for i in found) for found in bins]
    assert max(sizes) <= 1024 and sum(sizes) / (1024 * len(bins)) > 0.99
    assert best_fit([], 8) == []


def test_copies_share_a_place_and_a_pack_has_one_full_section_at_least():
    first, second = np.array([1, 2, 3], np.int32), np.array([1, 2], np.int32)
    found = plan([first, second, first.copy()], 64)
    assert (found.copies, found.members, found.sections, found.tokens, found.with_padding) == ([[0, 2], [1]], [[0, 1]], 3, 5, 64)
    assert (capacity(100, 512), capacity(1000, 32), capacity(1024, 512)) == (512, 1024, 1024)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_neighbours_order_and_place_in_a_pack_change_no_bit(precision):
    settings = AnnotateSettings(encoder="fixture:all-MiniLM-L6-v2", pooling="mean", section=64, batch_tokens=256, precision=precision)
    encoder = SectionEncoder(settings)
    draw = random.Random(3)
    sections = [np.array([101, *draw.choices(range(1000, 30000), k=n - 2), 102], np.int32) for n in (64, 64, 63, 45, 31, 17, 16, 5, 2)]
    alone = [encoder.forward(Pack([section], 256))[0] for section in sections]
    for _ in range(4):
        order, packed, total = draw.sample(range(len(sections)), len(sections)), [], 0
        for i in order:
            if total + len(sections[i]) <= 256:
                packed.append(i)
                total += len(sections[i])
        for i, vector in zip(packed, encoder.forward(Pack([sections[i] for i in packed], 256)), strict=True):
            assert np.array_equal(vector, alone[i])


def write(model, folder, tokenizer="all-MiniLM-L6-v2"):
    import shutil

    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(fixture(tokenizer) / name, folder)
    model.save_pretrained(folder)
    return SectionEncoder(AnnotateSettings(encoder=str(folder), pooling="mean", section=32, batch_tokens=64, precision="float32"))


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert", "MPNet"])
def test_other_encoders_give_what_the_plain_model_gives_in_packs_where_they_can(name, tmp_path):
    import transformers

    sizes = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes, max_position_embeddings=514)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # weights as large as trained ones': attention and positions tell
    encoder = write(model, tmp_path)
    assert (encoder.pack_tokens is None) == (name == "MPNet")  # its attention adds relative positions and does not go through the interface
    sections = [section for found in encoder.sections(["def f(x):\n    return x + 1\n" * 9, "a short one", "another"]) for section in found]
    for section, vector in zip(sections, encoder.embed(sections), strict=True):
        with torch.no_grad():
            hidden = model(input_ids=torch.from_numpy(section)[None].long()).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (hidden / hidden.norm()).numpy(), atol=1e-5)
