"""Tokenizers named by flags against the classes that Megatron-LM's tool builds for them, and nltk's own Punkt."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import TEXT_END, EncoderSpec, SentenceEncoder
from megatron_snow.tokens.flags import preprocess_main
from megatron_snow.tokens.given import TokenizerFlags, given_tokenizer
from megatron_snow.tokens.hub import as_it_stands, with_transformers
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.ranks import SPECIAL
from megatron_snow.tokens.sentences import SplitterSpec

ODD = ["", " ", "</s> <unk>x<SPECIAL_9>", "é中🙂 \u2028\x00", "1234.5e-6 don't", "a  b\r\n\tc", "[CLS] Unbelievable! [MASK]", "\n" * 20]
TOOLS = "an extra: pip install 'megatron_snow[tools]'"
PROSE = (
    "Dr. Smith paid $3.50 to the U.S. office.  He left at 5 p.m. on Jan. 3rd!\n\nDid Mr. Jones (of Acme Inc.) see him? "
    'She said: "No." Then... silence.\r\n  A new line. e.g. this one\n1. First item. 2. Second item.   \n'
)


@pytest.fixture(scope="module")
def texts(corpus: Path) -> list[str]:
    return [*ODD, PROSE, *[d["text"][:3000] for d in read_documents(corpus / "standard")][:25]]


def ids(spec: EncoderSpec, texts: list[str]) -> list[list[int]]:
    flat, lengths = spec.build().encode(texts)
    ends = lengths.cumsum()
    return [flat[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]


@pytest.fixture(scope="module")
def ranks(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiktoken vocabulary in both formats: the bytes, then the commonest pieces of words, longer ones built from shorter."""
    from collections import Counter

    pieces = Counter(word[:n].encode() for text in texts for word in text.split() for n in range(2, len(word) + 1))
    tokens = [bytes([i]) for i in range(256)] + [piece for piece, _ in sorted(pieces.most_common(500), key=lambda pair: len(pair[0])) if len(piece) > 1]
    tokens = list(dict.fromkeys(tokens))
    folder = tmp_path_factory.mktemp("ranks")
    entries = [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": t.decode("utf-8", "replace")} for i, t in enumerate(tokens)]
    (folder / "vocab.json").write_text(json.dumps(entries))
    (folder / "vocab.tiktoken").write_text("".join(f"{entry['token_bytes']} {entry['rank']}\n" for entry in entries))
    return folder


@pytest.mark.parametrize("pattern", ["v1", "v2", None])
@pytest.mark.parametrize("size", [600, 700])
def test_tiktoken(ranks: Path, texts: list[str], pattern: str | None, size: int) -> None:
    pytest.importorskip("tiktoken", reason=TOOLS)
    from megatron.core.tokenizers.text.libraries.tiktoken_tokenizer import TikTokenTokenizer

    extra: dict[str, Any] = {"pattern": pattern} if pattern else {}
    theirs = TikTokenTokenizer(str(ranks / "vocab.json"), num_special_tokens=50, vocab_size=size, **extra)
    for name in ("vocab.json", "vocab.tiktoken"):
        made = given_tokenizer(TokenizerFlags("TikTokenizer", str(ranks / name), vocab_size=size, tiktoken_pattern=pattern, tiktoken_num_special_tokens=50))
        assert ids(made.spec, texts) == [theirs.text_to_ids(text) for text in texts]
        assert (made.vocabulary, made.end_of_document) == (theirs.vocab_size, theirs.eod)
        assert made.spec.build().count(texts) == list(map(len, ids(made.spec, texts)))


def test_tiktoken_s_own_special_tokens(ranks: Path, texts: list[str]) -> None:
    pytest.importorskip("tiktoken", reason=TOOLS)
    from megatron.core.tokenizers.text.libraries.tiktoken_tokenizer import TikTokenTokenizer

    named = ["<mine>", *SPECIAL]
    theirs = TikTokenTokenizer(str(ranks / "vocab.json"), special_tokens=list(named), num_special_tokens=20, vocab_size=500)
    flags = TokenizerFlags("TikTokenizer", str(ranks / "vocab.json"), vocab_size=500, tokenizer_special_tokens=named, tiktoken_num_special_tokens=20)
    made = given_tokenizer(flags)
    assert ids(made.spec, [*texts, "a<mine>b"]) == [theirs.text_to_ids(text) for text in [*texts, "a<mine>b"]]
    assert made.end_of_document == theirs.eod == 3


def test_numbers() -> None:
    from megatron.core.tokenizers.text.libraries.null_tokenizer import NullTokenizer

    made = given_tokenizer(TokenizerFlags("NullTokenizer", vocab_size=70_000))
    assert ids(made.spec, ["5 17 3", "0"]) == [NullTokenizer(70_000).text_to_ids(text) for text in ("5 17 3", "0")]
    assert (made.vocabulary, made.end_of_document) == (70_000, 69_999)  # as since 2026; 0.16 counts the end-of-document token on top
    for text in ("", "1  2", "x", "-1"):
        with pytest.raises(SnowError, match="with one space between them"):
            made.spec.build().encode([text])


def test_bert(texts: list[str], tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    words = sorted({word.lower()[:6] for text in texts for word in text.split() if word.isalpha()})
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(letters + words), *("##" + c for c in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    for kind, lower in (("BertWordPieceLowerCase", True), ("BertWordPieceCase", False)):
        extra = [] if lower else [f"<extra_id_{i}>" for i in range(100)]
        theirs = BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=lower, additional_special_tokens=extra)
        made = given_tokenizer(TokenizerFlags(kind, vocab_file=str(tmp_path / "vocab.txt")))
        assert ids(made.spec, [*texts, "a <extra_id_7> b"]) == [theirs(text).input_ids for text in [*texts, "a <extra_id_7> b"]]
        assert (made.vocabulary, made.end_of_document) == (len(theirs), theirs.sep_token_id)


CONFIGS: list[tuple[dict[str, Any], bool]] = [  # what changes in tokenizer_config.json, and whether the short way is taken
    ({}, True),
    ({"tokenizer_class": "TokenizersBackend", "sep_token": "<fim_pad>"}, True),
    ({"eos_token": None, "sep_token": "<fim_pad>"}, True),
    ({"eos_token": None}, True),
    ({"pad_token": "<new>"}, False),
    ({"tokenizer_class": "GPT2Tokenizer"}, False),
    ({"add_bos_token": True}, False),
    ({"split_special_tokens": True}, False),
    ({"additional_special_tokens": ["def"]}, False),
]


@pytest.mark.parametrize(("changes", "short"), CONFIGS)
def test_a_folder_read_without_transformers_is_what_autotokenizer_makes_of_it(
    tokenizer: Path, texts: list[str], tmp_path: Path, changes: dict[str, Any], short: bool
) -> None:
    shutil.copy(tokenizer / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**json.loads((tokenizer / "tokenizer_config.json").read_text()), **changes}))
    found, theirs = as_it_stands(tmp_path), with_transformers(str(tmp_path))
    assert (found is not None) == short
    if found is not None:
        assert found[1:] == theirs[1:]
        for around in (True, False):
            mine, other = (EncoderSpec("hugging_face", loaded.text, as_text=False, add_special_tokens=around) for loaded in (found, theirs))
            assert ids(mine, [*texts, "<|endoftext|><fim_pad> x"]) == ids(other, [*texts, "<|endoftext|><fim_pad> x"])
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert as_it_stands(tmp_path) is None


def test_special_tokens_can_be_added(tokenizer: Path) -> None:
    made = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer), tokenizer_special_tokens=["<tool>"]))
    plain = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer)))
    assert made.vocabulary == plain.vocabulary + 1
    assert ids(made.spec, ["a<tool>b"])[0][1] == plain.vocabulary


@pytest.fixture(scope="module")
def nltk_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned models written out as nltk's downloader leaves them."""
    pytest.importorskip("nltk", reason=TOOLS)
    from megatron_snow.tokens.sentences import load_model

    folder = tmp_path_factory.mktemp("nltk")
    for language in ("english", "dutch"):
        model = load_model(language, None)
        place = folder / "tokenizers" / "punkt_tab" / language
        place.mkdir(parents=True)
        for name in ("abbrev_types", "sent_starters"):
            (place / f"{name}.txt").write_text("\n".join(sorted(model[name])), encoding="utf-8")
        (place / "collocations.tab").write_text("\n".join("\t".join(pair) for pair in sorted(model["collocations"])), encoding="utf-8")
        (place / "ortho_context.tab").write_text("\n".join(f"{word}\t{flags}" for word, flags in model["ortho_context"].items()), encoding="utf-8")
    return folder


def megatron_splitter(language: str, keep_newlines: bool) -> Any:
    """As Megatron-LM's tool makes one (tools/preprocess_data.py, Encoder.initializer), out of nltk's data folder."""
    from nltk.tokenize import punkt

    loaded = punkt.PunktTokenizer(language)
    if not keep_newlines:
        return loaded

    class Variables(punkt.PunktLanguageVars):  # type: ignore[misc]
        _period_context_fmt = r"""
        \S*                          # word characters
        %(SentEndChars)s             # what may end a sentence
        \s*
        (?=(?P<after_tok>
            %(NonWord)s
            |
            (?P<next_tok>\S+)
        ))"""

    return punkt.PunktSentenceTokenizer(train_text=loaded._params, lang_vars=Variables())


WORDS = st.sampled_from(
    ["Mr.", "e.g.", "He", "the", "end.", "end!", "?", "...", "\n", "\n\n", "  ", " ", '"', ")", "U.S.", "3.5", "Jan.", "A", ".", "é", "中文。"]
)


@pytest.mark.parametrize("keep", [False, True])
@settings(max_examples=50)
@given(some=st.lists(WORDS, max_size=25))
def test_sentences_are_nltk_s(nltk_data: Path, keep: bool, some: list[str]) -> None:
    import nltk

    text = " ".join(some)
    nltk.data.path = [str(nltk_data)]
    theirs = _cached_splitter(keep)
    assert _cached_ours(keep)(text) == theirs.tokenize(text)


_made: dict[tuple[str, bool], Any] = {}


def _cached_splitter(keep: bool) -> Any:
    return _made.setdefault(("theirs", keep), megatron_splitter("english", keep))


def _cached_ours(keep: bool) -> Any:
    key = ("ours", keep)
    return _made[key] if key in _made else _made.setdefault(key, SplitterSpec("english", None, keep).build())


def test_a_folder_of_one_s_own_and_other_languages(nltk_data: Path) -> None:
    text = "Dat kost ca. 3 euro. De heer Dr. Meijer betaalt bijv. vandaag! En jij? Ja."
    one, other = (SplitterSpec("dutch", folder).build() for folder in (str(nltk_data), None))
    assert one(text) == other(text) and len(one(text)) > 2
    assert SplitterSpec("english", str(nltk_data)).build()(PROSE) == SplitterSpec("english", None).build()(PROSE)


def test_long_texts_are_cut_as_megatron_s_tool_does(nltk_data: Path) -> None:
    import nltk

    nltk.data.path = [str(nltk_data)]
    text = "x" * 999_990 + " One. Two words. Three."  # the cut falls into a word
    theirs = _cached_splitter(False)
    assert _cached_ours(False)(text) == [s for at in (0, 1_000_000) for s in theirs.tokenize(text[at : at + 1_000_000])]


def test_sentence_lengths_are_marked_off_by_text(tokenizer: Path) -> None:
    plain = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer))).spec
    encoder = SentenceEncoder(SplitterSpec("english", None), plain.build())
    found, lengths = encoder.encode(["One. Two.", "", "Three."])
    one, two, three = (len(tokens) for tokens in ids(plain, ["One.", "Two.", "Three."]))
    assert lengths.tolist() == [one, two, TEXT_END, TEXT_END, three, TEXT_END]
    assert len(found) == one + two + three
    assert encoder.count(["One. Two.", ""]) == [one + two, 0]


@pytest.mark.parametrize("flags", [[], ["--keep-newlines"], ["--keep-newlines", "--partitions", "2", "--workers", "2"]])
def test_sentences_become_sequences(tokenizer: Path, nltk_data: Path, texts: list[str], tmp_path: Path, flags: list[str]) -> None:
    import nltk
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder
    from megatron.core.tokenizers.text.libraries.huggingface_tokenizer import HuggingFaceTokenizer

    nltk.data.path = [str(nltk_data)]
    theirs = HuggingFaceTokenizer(str(tokenizer), use_fast=True, include_special_tokens=True)
    splitter = _cached_splitter("--keep-newlines" in flags)
    order = list(range(0, len(texts), 2)) + list(range(1, len(texts), 2)) if "--partitions" in flags else range(len(texts))
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=DType.optimal_dtype(theirs.vocab_size))
    for i in order:
        sentences = [some for some in map(theirs.text_to_ids, splitter.tokenize(texts[i])) if some]
        if sentences:
            sentences[-1] = [*sentences[-1], theirs.eod]
        builder.add_document([t for some in sentences for t in some], [len(some) for some in sentences])
    builder.finalize(str(tmp_path / "theirs.idx"))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given_flags = ["--input", str(tmp_path / "in.jsonl"), "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(tokenizer), "--append-eod"]
    assert preprocess_main([*given_flags, "--output-prefix", str(tmp_path / "ours"), "--split-sentences", *flags]) == 0
    for suffix in ("bin", "idx"):
        assert (tmp_path / f"ours_text_sentence.{suffix}").read_bytes() == (tmp_path / f"theirs.{suffix}").read_bytes()
    assert IndexedDataset(tmp_path / "ours_text_sentence").header.sequences > len(texts)
