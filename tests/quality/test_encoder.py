import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.quality.encoder import SectionEncoder, choose_device, choose_precision
from megatron_snow.quality.settings import AnnotateSettings


def make(encoder, **changes):
    values = {"encoder": str(encoder), "section": 32, "pooling": "mean", "batch_tokens": 256, **changes}
    return SectionEncoder(AnnotateSettings.model_validate(values))


@pytest.fixture(scope="module")
def real():
    return make("fixture:all-MiniLM-L6-v2", precision="float32")


@pytest.fixture(scope="module")
def texts(documents):
    chosen = [d["text"] for d in documents[::20]]
    return [*chosen, *(text[:n] for text, n in zip(chosen, (0, 30, 60, 150), strict=False))]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_the_plain_model_on_one_section_at_a_time(texts, pooling):
    from transformers import AutoModel, AutoTokenizer

    folder = fixture("all-MiniLM-L6-v2")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encoder = make("fixture:all-MiniLM-L6-v2", precision="float32", pooling=pooling)
    short = [text[:100] for text in texts[:6]]
    sections = [found for text in short for found in encoder.sections([text])[0][:1]]
    vectors = encoder.embed(sections)
    for text, section, vector in zip(short, sections, vectors, strict=True):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        if len(tokenizer(text).input_ids) <= 32:
            assert section.tolist() == tokens.input_ids[0].tolist()
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor(section)[None]).last_hidden_state[0]
        expected = hidden[0] if pooling == "cls" else hidden.mean(0)
        np.testing.assert_allclose(vector, (expected / expected.norm()).numpy(), atol=2e-6)


def test_padding_waste_of_real_files_is_small(documents):
    """Files of all lengths: the tokens of padding and dummy rows among those the encoder computes."""
    encoder = make("fixture:all-MiniLM-L6-v2", section=128)
    plan = encoder.plan([section for found in encoder.sections([d["text"] for d in documents]) for section in found])
    assert plan.tokens / plan.with_padding > 0.97


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_vector_is_bitwise_the_same_whatever_it_is_batched_with(texts, precision):
    encoder = make("fixture:all-MiniLM-L6-v2", precision=precision)
    sections = [section for found in encoder.sections(texts) for section in found]
    assert {len(section) for section in sections} > {32} and min(map(len, sections)) == 2  # full, short and empty ones
    together = encoder.embed(sections)
    order = random.Random(0).sample(range(len(sections)), len(sections))
    assert np.array_equal(encoder.embed([sections[i] for i in order]), together[order])
    for i in random.Random(1).sample(range(len(sections)), 6):
        assert np.array_equal(encoder.embed([sections[i]])[0], together[i])


def test_sections_carry_the_special_tokens_and_fit(real, texts):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fixture("all-MiniLM-L6-v2"))
    for text, found in zip(texts, real.sections(texts), strict=True):
        assert 1 <= len(found) <= 3
        assert all(section[0] == tokenizer.cls_token_id and section[-1] == tokenizer.sep_token_id and len(section) <= 32 for section in found)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert found[0][1:-1].tolist() == ids[:30]  # TOP: cutting a long text first changes nothing there
        if len(ids) > 30:
            assert found[-1][-2:-1].tolist() == ids[-1:]


def test_a_huge_line_costs_no_more_than_its_slices(real):
    (found,) = real.sections(["x = 1; " * 3_000_000])
    assert [len(section) for section in found] == [32, 32, 32]


def test_text_with_nul_bytes_and_astral_characters_is_embedded(real):
    sections = [section for found in real.sections(["a\0b\x07", "\U0001f600" * 50, "", "\ufeff\u200b"]) for section in found]
    vectors = real.embed(sections)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_progress_is_told_every_section(real, texts):
    sections = [section for found in real.sections(texts) for section in found]
    told = []
    real.embed(sections, told.append)
    assert sum(told) == len(sections)
    assert real.embed([]).shape == (0, 384)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(SnowError, match="does not exist; give a folder"):
        make(tmp_path / "nowhere")


def test_a_name_that_is_neither_a_folder_nor_a_hub_name_is_refused():
    with pytest.raises(SnowError, match=r"annotate\.encoder no such model"):
        make("no such model")


def test_an_encoder_without_tokenizer_is_refused(small_encoder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(small_encoder / name, tmp_path)
    with pytest.raises(SnowError, match="tokenizer"):
        make(tmp_path)


def test_an_encoder_without_safetensors_is_refused(small_encoder, tmp_path):
    shutil.copytree(small_encoder, tmp_path / "e")
    torch.save({}, tmp_path / "e" / "pytorch_model.bin")
    (tmp_path / "e" / "model.safetensors").unlink()
    with pytest.raises(SnowError, match="cannot be loaded"):
        make(tmp_path / "e")


def test_damaged_weights_are_refused(small_encoder, tmp_path):
    shutil.copytree(small_encoder, tmp_path / "e")
    (tmp_path / "e" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SnowError, match="cannot be loaded"):
        make(tmp_path / "e")


def test_weights_that_do_not_fit_the_encoder_are_refused(small_encoder, tmp_path):
    shutil.copytree(small_encoder, tmp_path / "e")
    weights = load_file(small_encoder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layer.1" not in name}, tmp_path / "e" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SnowError, match="lacks the weights"):
        make(tmp_path / "e")


def test_numbers_that_are_not_finite_are_refused(small_encoder, tmp_path):
    shutil.copytree(small_encoder, tmp_path / "e")
    weights = load_file(small_encoder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"].fill_(float("nan"))
    save_file(weights, tmp_path / "e" / "model.safetensors", metadata={"format": "pt"})
    encoder = make(tmp_path / "e", precision="bfloat16")
    with pytest.raises(SnowError, match=r"not finite.*set annotate\.precision to float32"):
        encoder.embed(encoder.sections(["x"])[0])


def test_a_tokenizer_of_another_model_is_refused(small_encoder, tmp_path):
    from transformers import BertConfig, BertModel

    shutil.copytree(small_encoder, tmp_path / "e")
    BertModel(BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)).save_pretrained(tmp_path / "e")
    with pytest.raises(SnowError, match="tokenizer has 30522 tokens, the model 100"):
        make(tmp_path / "e")


def test_a_section_longer_than_the_encoder_is_refused(small_encoder):
    with pytest.raises(SnowError, match=r"annotate\.section is 1024 tokens.*takes 512 at most"):
        make(small_encoder, section=1024)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(SnowError, match="no CUDA device"):
        choose_device("cuda")


def test_precision_is_what_is_asked_for_and_auto_depends_on_the_device():
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    native = torch.cpu._is_avx512_bf16_supported()
    assert choose_precision("auto", cpu) == (torch.bfloat16 if native else torch.float32)
