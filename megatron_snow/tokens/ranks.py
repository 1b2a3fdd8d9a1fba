"""tiktoken's vocabularies: byte strings by rank, a word pattern and special tokens, as Megatron-LM's ``TikTokenizer`` lays them out.

Two files are read: the JSON list that Megatron-LM takes (``rank``, ``token_bytes`` in base64, ``token_str``) and the
``.tiktoken`` lines that OpenAI and Meta publish (base64, a space, the rank). In both the special tokens come first:
``<unk>`` 0, ``<s>`` 1, ``</s>`` 2 (the end of a document) and so on, filled up with ``<SPECIAL_n>``; then the byte
strings, as many as the vocabulary has room for. Layout, default sizes and patterns: Megatron-LM as of 2026-08,
megatron/core/tokenizers/text/libraries/tiktoken_tokenizer.py.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError

VOCABULARY = 2**17
"""Tokens in all, special ones included, where ``--vocab-size`` says nothing."""
SPECIAL = ("<unk>", "<s>", "</s>", "<mask>", "<pad>", "<cls>", "<sep>")
END = "</s>"
PATTERNS = {
    "v1": r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "v2": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def read_ranks(path: Path) -> list[bytes]:
    """The byte strings of a vocabulary, by rank. Raises SnowError where the file is neither format or a rank is missing."""
    try:
        text = path.read_text(encoding="utf-8")
        ranks = _of_json(text) if path.suffix == ".json" else _of_lines(text)
    except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise SnowError(
            f"--tokenizer-model {path} is no tiktoken vocabulary ({type(error).__name__}: {error}); "
            "give Megatron-LM's JSON list of rank and token_bytes, or a .tiktoken file of base64 and rank"
        ) from error
    if set(ranks) != set(range(len(ranks))) or len(set(ranks.values())) < len(ranks):
        raise SnowError(f"--tokenizer-model {path}: ranks must go from 0 to {len(ranks) - 1} without a gap, and no token twice")
    found = [ranks[rank] for rank in range(len(ranks))]
    if missing := [byte for byte in range(256) if bytes([byte]) not in set(found)]:
        raise SnowError(f"--tokenizer-model {path}: no token for the single byte {missing[0]:#04x}; tiktoken could not encode every text")
    return found


def _of_json(text: str) -> dict[int, bytes]:
    return {int(entry["rank"]): base64.b64decode(entry["token_bytes"], validate=True) for entry in json.loads(text)}


def _of_lines(text: str) -> dict[int, bytes]:
    return {int(rank): base64.b64decode(token, validate=True) for token, rank in (line.split() for line in text.splitlines() if line)}


def pack(path: Path, pattern: str | None, vocabulary: int | None, num_special: int, special: Sequence[str] | None) -> bytes:
    """A vocabulary file and its flags as the bytes of an ``EncoderSpec``. Raises SnowError where they do not fit together."""
    words, size, named = read_ranks(path), vocabulary or VOCABULARY, list(special or SPECIAL)
    if lacking := [token for token in SPECIAL if token not in named]:
        raise SnowError(f"--tokenizer-special-tokens lacks {', '.join(lacking)}; a TikTokenizer needs all of {', '.join(SPECIAL)}")
    if len(set(named)) < len(named) or not len(named) <= num_special < size:
        raise SnowError(
            f"--tiktoken-num-special-tokens {num_special}: it must be at least the {len(named)} special tokens named (each once) and less than the "
            f"vocabulary's {size}"
        )
    if len(words) < size - num_special:
        raise SnowError(
            f"--tokenizer-model {path} has {len(words)} byte strings, a vocabulary of {size} with {num_special} special tokens needs {size - num_special}; "
            f"give --vocab-size {len(words) + num_special}"
        )
    named += [f"<SPECIAL_{i}>" for i in range(len(named), num_special)]
    ranks = [base64.b64encode(word).decode() for word in words[: size - num_special]]
    return json.dumps({"pattern": PATTERNS[pattern or "v2"], "special": named, "ranks": ranks}).encode()


def unpack(model: bytes) -> Any:
    """The ``tiktoken.Encoding`` that ``pack`` described."""
    import tiktoken

    packed = json.loads(model)
    special = {token: i for i, token in enumerate(packed["special"])}
    ranks = {base64.b64decode(word): len(special) + i for i, word in enumerate(packed["ranks"])}
    return tiktoken.Encoding("given", pat_str=packed["pattern"], mergeable_ranks=ranks, special_tokens=special)
