"""The tokenizer arrow: every text comes back, special tokens stay out of text, the same input gives the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from megatron_snow.artifacts.documents import Document, read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.units import parse_bytes
from megatron_snow.tokens.encoder import BATCH, CodeTokenizer, Encoder, HuggingFaceEncoder, count_tokens, load_tokenizer, parse_tokenizer
from megatron_snow.tokens.settings import TokenizerSettings, TokenizerTraining
from megatron_snow.tokens.special import SPECIAL_TOKENS
from megatron_snow.tokens.tokenizer import _sample, tokenizer_fingerprint, train_tokenizer
from tests.tokens.conftest import VOCABULARY

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # every character but lone surrogates, which no UTF-8 file holds


@pytest.fixture(scope="module")
def ready(tokenizer: Path) -> tuple[CodeTokenizer, Encoder, Any]:
    """The tokenizer, its encoder, its decoder."""
    loaded = load_tokenizer(tokenizer)
    return loaded, loaded.spec.build(), parse_tokenizer(str(loaded.spec.model))


@settings(max_examples=200)
@given(text=ANY_TEXT)
@example(text="\t\tif x:\r\n\r\n    return'\u3000\u00a0\x00\ufeff 12٣½ <|endoftext|> <fim_prefix>\n")
def test_every_text_comes_back(ready: tuple[CodeTokenizer, Encoder, Any], text: str) -> None:
    loaded, encoder, decoder = ready
    ids, lengths = encoder.encode([text, text + text])
    assert decoder.decode(ids[: lengths[0]].tolist(), skip_special_tokens=False) == text
    assert decoder.decode(ids[lengths[0] :].tolist(), skip_special_tokens=False) == text + text
    assert not set(loaded.special.values()) & set(ids.tolist())  # spelled out in a text they are text


def test_every_byte_that_text_can_hold_and_real_files_come_back(corpus: Path, tokenizer: Path) -> None:
    loaded = load_tokenizer(tokenizer)
    decoder = parse_tokenizer(str(loaded.spec.model))
    texts = ["".join(map(chr, range(0xD800))), "".join(map(chr, range(0xE000, 0x11000)))] + [d["text"] for d in read_documents(corpus / "standard")]
    ids, lengths = loaded.spec.build().encode(texts)
    for text, some in zip(texts, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
        assert decoder.decode(some.tolist(), skip_special_tokens=False) == text


def test_auto_tokenizer_loads_it_even_beside_a_llama_config(tokenizer: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = tmp_path / "model"
    shutil.copytree(tokenizer, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    loaded = load_tokenizer(tokenizer)
    text = "def f(self):\n\treturn self._x  +  1234\n\n"
    for path in (tokenizer, folder):
        theirs = AutoTokenizer.from_pretrained(path)
        assert isinstance(theirs, PreTrainedTokenizerFast)
        assert theirs.eos_token_id == theirs.bos_token_id == theirs.pad_token_id == 0 == loaded.special["<|endoftext|>"]
        assert len(theirs) == VOCABULARY == loaded.vocabulary
        assert theirs(text).input_ids == loaded.spec.build().encode([text])[0].tolist()
        assert theirs.decode(theirs(text).input_ids) == text
        assert [theirs.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(7))


def test_words_are_cut_as_documented(tokenizer: Path) -> None:
    cut = parse_tokenizer((tokenizer / "tokenizer.json").read_text()).pre_tokenizer.pre_tokenize_str('    self._x.append(a123)\n\n    """Doc."""\n\treturn')
    words = [word.replace("Ġ", " ").replace("Ċ", "\n").replace("ĉ", "\t") for word, _ in cut]
    assert words == ["   ", " self", "._", "x", ".append", "(a", "1", "2", "3", ")", "\n\n   ", ' """', "Doc", '."""', "\n", "\treturn"]


def test_same_corpus_same_bytes_in_another_process_with_other_threads(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from megatron_snow.tokens.settings import *; from megatron_snow.tokens.tokenizer import train_tokenizer; "
        f"train_tokenizer(TokenizerSettings(train=TokenizerTraining(vocabulary={VOCABULARY}, sample=500_000)), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script, str(corpus), str(tmp_path)], check=True, env=environment, capture_output=True)
    assert (
        sorted(p.name for p in tokenizer.iterdir()) == sorted(p.name for p in tmp_path.iterdir()) == ["summary.json", "tokenizer.json", "tokenizer_config.json"]
    )
    for path in tokenizer.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_sample_is_the_smallest_hashes_in_any_order(tmp_path: Path, corpus: Path) -> None:
    documents = list(read_documents(corpus / "standard"))
    size = 200_000
    first = _sample(corpus / "standard", size)
    sizes = [len(d["text"].encode()) for d in first]
    assert sum(sizes) >= size > sum(sizes[:-1])  # the last is the one that crosses
    random.Random(1).shuffle(documents)
    write_documents(tmp_path / "shuffled", documents)
    assert [d["id"] for d in _sample(tmp_path / "shuffled", size)] == [d["id"] for d in first]
    assert len(_sample(corpus / "standard", 10**9)) == len(documents)


def test_summary(tokenizer: Path) -> None:
    summary = json.loads((tokenizer / "summary.json").read_text())
    assert summary["vocabulary"] == VOCABULARY and summary["special"]["<|endoftext|>"] == 0
    assert summary["sample_bytes"] >= 500_000 and summary["sample_files"] > 10
    assert 1.5 < summary["characters_per_token"]["Python"] < 5
    assert len(summary["longest"]) == 20


def test_counts_are_lengths(corpus: Path, tokenizer: Path) -> None:
    texts = [*[d["text"] for d in read_documents(corpus / "standard")][:30], "", "x" * (BATCH + 1)]
    encoder = load_tokenizer(tokenizer).spec.build()
    assert isinstance(encoder, HuggingFaceEncoder)
    assert count_tokens(tokenizer, texts) == count_tokens(encoder, texts) == encoder.encode(texts)[1].tolist()
    assert count_tokens(encoder, []) == []


def test_given_tokenizer_gets_the_missing_special_tokens(tokenizer: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    plain = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "<|endoftext|>": 2}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.enable_truncation(3)
    plain.save(str(tmp_path / "plain.json"))
    work = tmp_path / "work"
    work.mkdir()
    counts = train_tokenizer(TokenizerSettings(path=str(tmp_path / "plain.json")), tmp_path / "unused", work)
    loaded = load_tokenizer(work)
    assert counts["vocabulary"] == loaded.vocabulary == 9
    assert loaded.special["<|endoftext|>"] == 2 and loaded.special["<repo_name>"] == 3
    assert loaded.spec.build().encode(["abab"])[0].tolist() == [0, 1, 0, 1]  # not cut at 3
    again = tmp_path / "again"
    again.mkdir()
    train_tokenizer(TokenizerSettings(path=str(tokenizer)), tmp_path / "unused", again)
    assert load_tokenizer(again).special == load_tokenizer(tokenizer).special
    assert tokenizer_fingerprint(TokenizerSettings(path=str(tokenizer))) != tokenizer_fingerprint(TokenizerSettings(path=str(work))) != ""
    assert tokenizer_fingerprint(TokenizerSettings()) == ""


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/nowhere/tokenizer.json", "there is no"),
        ("{tmp}", "there is no"),
        ("{tmp}/broken.json", "is not a Hugging Face tokenizer.json"),
        ("fixture:nothing", "unknown fixture"),
    ],
)
def test_bad_paths_are_named(tmp_path: Path, path: str, complaint: str) -> None:
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(SnowError, match=complaint):
        train_tokenizer(TokenizerSettings(path=path.format(tmp=tmp_path)), tmp_path, tmp_path)


def test_what_is_no_hub_name_either_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="neither a local path nor a hub tokenizer"):
        train_tokenizer(TokenizerSettings(path="no such/hub name"), tmp_path, tmp_path)


def test_bad_corpus_and_settings_are_named(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"holds no \*.jsonl.zst"):
        train_tokenizer(TokenizerSettings(), tmp_path, tmp_path)
    write_documents(tmp_path / "standard", [])
    with pytest.raises(SnowError, match="nothing to learn"):
        train_tokenizer(TokenizerSettings(), tmp_path, tmp_path)
    one: Document = {"id": "a", "text": "x = 1\n", "language": "Python", "repository": "r", "path": "a.py", "license": "", "source": "s"}
    write_documents(tmp_path / "standard", [one])
    with pytest.raises(SnowError, match="asks for 64000: ask for at most"):
        train_tokenizer(TokenizerSettings(), tmp_path, tmp_path)
    with pytest.raises(SnowError, match="run 'snow tokenizer' first"):
        load_tokenizer(tmp_path / "absent")
    (tmp_path / "tokenizer.json").write_text("not json")
    with pytest.raises(SnowError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)
    text = (tokenizer / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("<fim_pad>", "<other>"))
    with pytest.raises(SnowError, match="lacks the special tokens <fim_pad>"):
        load_tokenizer(tmp_path)


def test_settings() -> None:
    assert TokenizerSettings().train == TokenizerTraining(vocabulary=64_000, sample=parse_bytes("1GiB"))
    assert TokenizerSettings(path="x").train is None
    assert TokenizerSettings.model_validate({"path": None, "train": None}).train is not None
    with pytest.raises(ValidationError, match="not both"):
        TokenizerSettings(path="x", train=TokenizerTraining())
    with pytest.raises(ValidationError, match="greater than or equal to 263"):
        TokenizerTraining(vocabulary=262)
