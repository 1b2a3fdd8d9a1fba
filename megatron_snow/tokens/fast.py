"""A faster encoder for byte-level BPE (the package fastokens, optional), never trusted further than it is checked.

Ten to twenty times Hugging Face's speed on code, a third party's Rust. So: it is taken only for tokenizers on whose
probe texts it agrees with the reference, and in every run a sample of the texts is encoded by both. A difference ends
the run: what was written before it would be in doubt. It is given the tokenizer with its word pattern written in the
way it is quick with (``_quick``: 4 times for GPT-2's and StarCoder's); the reference keeps what the user gave, so the
checks cover the rewriting too. Version 0.3.5 was held to the reference on 162,012 texts (pieces
of real files of 40 languages and formats, half as many adversarial Unicode strings; five tokenizers; special tokens
as text and as themselves): no difference.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import zlib
from collections.abc import Sequence

import numpy as np

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.tokens.encoder import EncoderSpec, HuggingFaceEncoder, Ids, Lengths
from megatron_snow.tokens.settings import Engine
from megatron_snow.tokens.special import SPECIAL_TOKENS

PACKAGE = "fastokens"
_FIRST = 8  # texts of each encoder that are all checked (ours: what is wrong with a tokenizer mostly shows at once)
_ONE_IN = 1024  # of the texts after that (ours: costs about 3 % at 30 times the reference's speed)
_LONGEST = 2**22  # characters of a text that is checked (ours: the reference takes some 50 bytes of memory a character)
_PIECES = (
    *(" ", "   ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u2028", "\u0085", "\u3000", "\ufeff", "\x00", "\x1c", "\u200d"),
    *("a", "self._x.append(", "O'Brien's", "\u017f", "İ", "ǅ", "e\u0301", "ß", "中文", "か\u3099", "한국", "🙂👩\u200d💻", "\U0010ffff", "ा"),
    *("7", "1234.5e-6", "²½Ⅷ٣", "==", '"""', "//----", "\\u00e9", "<|x|>", "<s>", "</s>", *SPECIAL_TOKENS),
)


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # tokenizers' ByteLevel with use_regex
_GPT2_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""The same where every digit was cut out before it (StarCoder): a digit ends the space before it as the text's end does."""


class FastEncoder:
    """fastokens, held to the reference on a sample."""

    def __init__(self, spec: EncoderSpec) -> None:
        import fastokens

        self._tokenizer = fastokens.Tokenizer.from_json_str(_quick(str(spec.model)))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._reference = HuggingFaceEncoder(spec)
        self._spec = spec
        self._seen = 0

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """See ``Encoder``. Raises SnowError where a sampled text differs from the reference."""
        ids, lengths = self._encode(texts)
        starts = np.cumsum(lengths) - lengths
        for i, text in enumerate(texts):
            if len(text) <= _LONGEST and (self._seen + i < _FIRST or zlib.crc32(text[-256:].encode("utf-8", "replace"), len(text)) % _ONE_IN == 0):
                self._check(text, ids[starts[i] : starts[i] + lengths[i]])
        self._seen += len(texts)
        return ids, lengths

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return self.encode(texts)[1].tolist()

    def agrees(self, texts: Sequence[str]) -> bool:
        """Whether every text is encoded as by the reference."""
        mine, theirs = self._encode(texts), self._reference.encode(texts)
        return np.array_equal(mine[0], theirs[0]) and np.array_equal(mine[1], theirs[1])

    def _encode(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        raw, offsets = self._tokenizer.encode_batch_flat(list(texts), add_special_tokens=self._spec.add_special_tokens, split_special_tokens=self._spec.as_text)
        ends: Lengths = np.frombuffer(offsets, np.int64)
        return np.frombuffer(raw, np.uint32), ends[1:] - ends[:-1]

    def _check(self, text: str, ids: Ids) -> None:
        if not np.array_equal(ids, self._reference.encode([text])[0]):
            raise SnowError(
                f"the fast tokenizer ({PACKAGE}) differs from Hugging Face's on a text that begins {text[:80]!r}: delete this arrow's unfinished "
                "folder or output, run again with the engine 'reference', and report the text"
            )


@functools.lru_cache(maxsize=1)
def fast_encoder(spec: EncoderSpec) -> FastEncoder:
    """The encoder of a spec. The last one is kept: whoever looks whether it can be had mostly uses it next, and reading one takes half a second."""
    return FastEncoder(spec)


def _quick(model: str) -> str:
    """The tokenizer with a pre-tokenizer that cuts the same words and that the package has a fast path for."""
    loaded = json.loads(model)
    match loaded.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            pattern = _GPT2
        case {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}],
        }:
            pattern = _GPT2_DIGITS
        case _:
            return model
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({**loaded, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, level]}})


def with_engine(spec: EncoderSpec, engine: Engine) -> EncoderSpec:
    """The spec that ``engine`` asks for; says which it is where ``auto`` decides.

    Raises SnowError where ``fast`` is asked for and cannot be had.
    """
    if spec.kind != "hugging_face" or engine == "reference":
        return spec
    reason = _why_not(spec)
    if reason is None:
        return dataclasses.replace(spec, kind="fast")
    if engine == "fast":
        raise SnowError(f"the engine 'fast' cannot be had: {reason}; use 'auto' or 'reference'")
    say(f"  encoding with Hugging Face tokenizers: {reason}")
    return spec


def _why_not(spec: EncoderSpec) -> str | None:
    """What speaks against the fast encoder for this tokenizer; None where nothing does."""
    if importlib.util.find_spec(PACKAGE) is None:
        return f"the package {PACKAGE}, 10 to 20 times as fast, is not installed"
    try:
        encoder = fast_encoder(dataclasses.replace(spec, kind="fast", sentences=None))
    except Exception as error:  # a tokenizer it does not know, in whatever words
        return f"{PACKAGE} cannot take this tokenizer ({(str(error).splitlines() or ['no message'])[0]})"
    probes = [*_PIECES, *(left + right for left in _PIECES for right in _PIECES), "".join(_PIECES), "".join(reversed(_PIECES))]
    return None if encoder.agrees(probes) else f"{PACKAGE} encodes some probe texts of this tokenizer differently"
