"""The fast encoder: the reference's ids on real code and adversarial Unicode; a difference ends the run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens import fast
from megatron_snow.tokens.encoder import EncoderSpec, HuggingFaceEncoder, counting_encoder, load_tokenizer
from megatron_snow.tokens.fast import FastEncoder, with_engine
from megatron_snow.tokens.pool import encode_stream

installed = pytest.mark.skipif(
    importlib.util.find_spec(fast.PACKAGE) is None, reason="fastokens is not installed (extra fast): pip install 'megatron_snow[fast]'"
)
WORDS = st.sampled_from([*fast._PIECES, "  ", "\r", "_", "'t", "'LL", "\u0300", "\u0e33", "\ue000", "ﷺ", "🇩🇪"])
ANY = st.one_of(st.lists(WORDS, max_size=30).map("".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=60))


def pair(tokenizer: Path, as_text: bool = True) -> tuple[FastEncoder, HuggingFaceEncoder]:
    spec = dataclasses.replace(load_tokenizer(tokenizer).spec, as_text=as_text)
    return FastEncoder(spec), HuggingFaceEncoder(spec)


def same(mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(mine, theirs, strict=True))


@installed
def test_real_code(corpus: Path, tokenizer: Path) -> None:
    texts = [d["text"] for d in read_documents(corpus / "standard")]
    mine, theirs = pair(tokenizer)
    assert same(mine.encode(texts), theirs.encode(texts))
    assert mine.count(texts) == theirs.count(texts)
    assert same(mine.encode([]), theirs.encode([]))


@pytest.fixture(scope="module")
def pairs(tokenizer: Path) -> dict[bool, tuple[FastEncoder, HuggingFaceEncoder]]:
    """By ``as_text``."""
    return {as_text: pair(tokenizer, as_text) for as_text in (True, False)}


@installed
@settings(max_examples=200)
@given(texts=st.lists(ANY, min_size=1, max_size=20), as_text=st.booleans())
def test_adversarial_unicode(pairs: dict[bool, tuple[FastEncoder, HuggingFaceEncoder]], texts: list[str], as_text: bool) -> None:
    mine, theirs = pairs[as_text]
    assert same(mine._encode(texts), theirs.encode(texts))


@installed
def test_auto_takes_it_in_this_process_and_in_others(corpus: Path, tokenizer: Path) -> None:
    spec = with_engine(load_tokenizer(tokenizer).spec, "auto")
    assert spec.kind == "fast" and isinstance(counting_encoder(tokenizer), FastEncoder)
    texts = [[d["text"]] for d in read_documents(corpus / "standard")][:12]
    reference = HuggingFaceEncoder(load_tokenizer(tokenizer).spec)
    for workers in (1, 2):
        for (ids, lengths, _), text in zip(encode_stream(spec, ((text, None) for text in texts), workers), texts, strict=True):
            assert same((ids, lengths), reference.encode(text))


@installed
def test_a_difference_ends_the_run_and_is_found_by_the_probes(tokenizer: Path) -> None:
    spec = load_tokenizer(tokenizer).spec
    model = json.loads(str(spec.model))
    model["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W"
    other = FastEncoder(dataclasses.replace(spec, model=json.dumps(model)))
    wrong = FastEncoder(spec)
    wrong._tokenizer = other._tokenizer
    assert not wrong.agrees(fast._PIECES)
    with pytest.raises(SnowError, match=r"differs from Hugging Face's on a text that begins 'x = foo\.bar'"):
        wrong.encode(["x = foo.bar"])


@installed
def test_what_it_cannot_take_is_left_to_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    spec = EncoderSpec("hugging_face", words.to_str())
    assert with_engine(spec, "auto") is spec
    assert "encoding with Hugging Face tokenizers: fastokens" in capsys.readouterr().err
    with pytest.raises(SnowError, match="the engine 'fast' cannot be had"):
        with_engine(spec, "fast")


def test_the_reference_is_what_is_asked_for(tokenizer: Path) -> None:
    spec = load_tokenizer(tokenizer).spec
    assert with_engine(spec, "reference") is spec
    pieces = EncoderSpec("sentencepiece", b"")
    assert with_engine(pieces, "auto") is pieces
