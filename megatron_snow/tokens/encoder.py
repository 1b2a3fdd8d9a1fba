"""Texts to token ids in bulk: flat arrays in and out, no Python object per token.

An ``EncoderSpec`` is what travels to worker processes (a few MB at most); ``build`` makes the encoder there without
importing transformers. Hugging Face ``tokenizers`` is the reference; ``fast`` may stand in for it (see there).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.ranks import unpack
from megatron_snow.tokens.sentences import SplitterSpec
from megatron_snow.tokens.special import SPECIAL_TOKENS

BATCH = 2**18  # characters encoded together (ours: Hugging Face's encodings take about 150 bytes a token while they live)
TEXT_END = -1  # in the lengths a ``SentenceEncoder`` gives: no sentence, the text ends here

Ids = npt.NDArray[np.uint32]
Lengths = npt.NDArray[np.int64]


class Encoder(Protocol):
    """A tokenizer ready to encode."""

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """The ids of all texts one after another [sum of lengths], and the number of each [texts]."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""


@dataclass(frozen=True)
class EncoderSpec:
    """A tokenizer as data.

    ``model`` is the text of a ``tokenizer.json``, for ``sentencepiece`` a serialized model, for ``tiktoken`` what
    ``ranks.pack`` makes, for ``numbers`` nothing. ``as_text``: special tokens spelled out in a text are text.
    ``add_special_tokens``: what the tokenizer's post-processor puts around every text (a Llama's <s>) is added. Both
    concern the ``tokenizer.json`` kinds alone. ``sentences``: texts are cut into these first (see ``sentences``).
    """

    kind: Literal["hugging_face", "fast", "sentencepiece", "tiktoken", "numbers"]
    model: str | bytes
    as_text: bool = True
    add_special_tokens: bool = False
    sentences: SplitterSpec | None = None

    def build(self) -> Encoder:
        """The encoder."""
        if self.sentences:
            return SentenceEncoder(self.sentences, dataclasses.replace(self, sentences=None).build())
        if self.kind == "sentencepiece":
            return SentencePieceEncoder(self)
        if self.kind == "tiktoken":
            return TikTokenEncoder(self)
        if self.kind == "numbers":
            return NumberEncoder()
        if self.kind == "fast":
            from megatron_snow.tokens.fast import fast_encoder

            return fast_encoder(self)
        return HuggingFaceEncoder(self)


class HuggingFaceEncoder:
    """The reference: Hugging Face ``tokenizers``."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._tokenizer = parse_tokenizer(str(spec.model))
        self._tokenizer.encode_special_tokens = spec.as_text
        self._add_special_tokens = spec.add_special_tokens

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """See ``Encoder``."""
        found = [self._batch(batch) for batch in batches(texts)]
        return np.concatenate([ids for ids, _ in found] or [np.empty(0, np.uint32)]), np.concatenate(
            [lengths for _, lengths in found] or [np.empty(0, np.int64)]
        )

    def _batch(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=self._add_special_tokens)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        return np.fromiter(itertools.chain.from_iterable(e.ids for e in encodings), np.uint32, int(lengths.sum())), lengths

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without making the ids."""
        return [len(e) for batch in batches(texts) for e in self._tokenizer.encode_batch_fast(batch, add_special_tokens=self._add_special_tokens)]


class SentencePieceEncoder:
    """Google's ``sentencepiece``."""

    def __init__(self, spec: EncoderSpec) -> None:
        import sentencepiece

        assert isinstance(spec.model, bytes)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=spec.model)

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """See ``Encoder``."""
        return _flat([self._processor.encode_as_ids(text) for text in texts])

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return [len(self._processor.encode_as_ids(text)) for text in texts]


class TikTokenEncoder:
    """OpenAI's ``tiktoken``; special tokens spelled out in a text are special, as in Megatron-LM."""

    def __init__(self, spec: EncoderSpec) -> None:
        assert isinstance(spec.model, bytes)
        self._encoding = unpack(spec.model)

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """See ``Encoder``."""
        return _flat([self._encoding.encode(text, allowed_special="all") for text in texts])

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return self.encode(texts)[1].tolist()


class NumberEncoder:
    """Texts that are token ids with one space between them (Megatron-LM's ``NullTokenizer``)."""

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """See ``Encoder``. Raises SnowError where a text is anything else."""
        try:
            return _flat([[int(word) for word in text.split(" ")] for text in texts])
        except (ValueError, OverflowError) as error:
            raise SnowError(f"NullTokenizer takes token ids with one space between them, as in '5 17 3' ({error}); give another --tokenizer-type") from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return self.encode(texts)[1].tolist()


class SentenceEncoder:
    """Another encoder, given texts sentence by sentence."""

    def __init__(self, splitter: SplitterSpec, encoder: Encoder) -> None:
        self._split, self._encoder = splitter.build(), encoder

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """As ``Encoder``, but lengths are the sentences', with ``TEXT_END`` behind each text's last."""
        sentences = [self._split(text) for text in texts]
        ids, lengths = self._encoder.encode([sentence for some in sentences for sentence in some])
        return ids, np.insert(lengths, np.cumsum([len(some) for some in sentences]).astype(np.int64), TEXT_END)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return [int(self._encoder.encode(self._split(text))[1].sum()) for text in texts]


def _flat(found: list[list[int]]) -> tuple[Ids, Lengths]:
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    return np.fromiter(itertools.chain.from_iterable(found), np.uint32, int(lengths.sum())), lengths


def batches(texts: Sequence[str]) -> list[list[str]]:
    """Cut into runs of about ``BATCH`` characters; a longer text is one by itself."""
    runs: list[list[str]] = []
    size = BATCH
    for text in texts:
        if size >= BATCH:
            runs.append([])
            size = 0
        runs[-1].append(text)
        size += len(text)
    return runs


def parse_tokenizer(text: str) -> Any:
    """A ``tokenizers.Tokenizer`` that neither cuts nor pads. Raises ValueError where ``text`` is no tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the bindings raise plain Exception
        raise ValueError(str(error)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class CodeTokenizer:
    """The tokenizer of a road: what the tokenizer arrow writes, with the special tokens of ``tokens.special``."""

    folder: Path
    spec: EncoderSpec
    vocabulary: int
    special: dict[str, int]
    """Id of each of ``SPECIAL_TOKENS``."""


def load_tokenizer(folder: Path) -> CodeTokenizer:
    """Read the tokenizer arrow's folder. Raises SnowError where it is missing, damaged or lacks a special token."""
    path = folder / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = parse_tokenizer(text)
    except FileNotFoundError as error:
        raise SnowError(f"no tokenizer in {folder} (tokenizer.json is missing); run 'snow tokenizer' first") from error
    except ValueError as error:
        raise SnowError(f"{path} is not a tokenizer ({error}); delete its folder and run 'snow tokenizer' again") from error
    special = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    if missing := [token for token, number in special.items() if number is None]:
        raise SnowError(f"{path} lacks the special tokens {', '.join(missing)}; pass it through 'snow tokenizer' (tokenizer.path), which adds them")
    return CodeTokenizer(folder, EncoderSpec("hugging_face", text), tokenizer.get_vocab_size(with_added_tokens=True), special)


def count_tokens(tokenizer: Path | Encoder, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has as a file's content, without any special token.

    ``tokenizer``: the tokenizer arrow's folder, or, to load it once for many calls, ``counting_encoder(folder)``.
    """
    return (counting_encoder(tokenizer) if isinstance(tokenizer, Path) else tokenizer).count(texts)


def counting_encoder(folder: Path) -> Encoder:
    """The fastest encoder there is for the tokenizer in ``folder``."""
    from megatron_snow.tokens.fast import with_engine

    return with_engine(load_tokenizer(folder).spec, "auto").build()
