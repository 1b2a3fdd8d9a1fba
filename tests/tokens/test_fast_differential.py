"""The fast encoder held to Hugging Face's on many texts: real files of all kinds, every script of Unicode, adversarial strings; several tokenizers."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import sysconfig
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.tokens import fast
from megatron_snow.tokens.encoder import EncoderSpec, HuggingFaceEncoder
from megatron_snow.tokens.fast import FastEncoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(fast.PACKAGE) is None, reason="fastokens is not installed (extra fast): pip install 'megatron_snow[fast]'"
)

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT4 = (  # the word pattern of OpenAI's cl100k_base
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS: dict[str, Any] = {  # pre-tokenizers; None: the trained tokenizer's own
    "ours": None,
    "gpt2": {**LEVEL, "use_regex": True},
    "starcoder": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**LEVEL, "use_regex": True}]},
    "gpt4": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": GPT4}, "behavior": "Isolated", "invert": False}, LEVEL]},
}
PIECE = 1500  # characters of a file taken as one document


def pairs(tokenizer: Path) -> Iterator[tuple[str, FastEncoder, HuggingFaceEncoder]]:
    """Each tokenizer, special tokens as text and as themselves."""
    model = json.loads((tokenizer / "tokenizer.json").read_text())
    for name, words in WORDS.items():
        changed = model if words is None else {**model, "pre_tokenizer": words}
        for as_text in (True, False):
            spec = EncoderSpec("hugging_face", json.dumps(changed), as_text=as_text)
            yield f"{name} {as_text}", FastEncoder(spec), HuggingFaceEncoder(spec)


def scripts() -> dict[str, list[str]]:
    """The letters, marks, digits and signs of Unicode by the first word of their names: scripts, mostly."""
    found: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        if name:
            found.setdefault(name.split()[0].split("-")[0], []).append(chr(code))
    return found


def invented(rng: random.Random) -> Iterator[str]:
    """Words of every script among spaces, digits, signs and what tokenizers trip over."""
    letters = scripts()
    names = sorted(letters)
    odd = [*fast._PIECES, "  ", "\t\t", "'ll", "'S", "\r\n\r\n", "\u00a0 ", " \u2029", "\u0345", "\u1e9e", "\ufdfa", "\U0001f1e9\U0001f1ea"]
    for turn in range(sys.maxsize):
        some = letters[names[turn % len(names)]]
        parts = []
        for _ in range(rng.randrange(1, 25)):
            kind = rng.random()
            if kind < 0.5:
                parts.append("".join(rng.choices(some, k=rng.randrange(1, 9))))
            elif kind < 0.8:
                parts.append(rng.choice(odd))
            elif kind < 0.9:
                parts.append(" " * rng.randrange(1, 6))
            else:
                parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, sys.maxunicode + 1)])))
        yield "".join(parts)


def real(rng: random.Random) -> Iterator[str]:
    """Pieces of every file of the standard library and the installed packages that is text, whatever its kind, in random order."""
    files = [path for root in ("stdlib", "purelib") for path in Path(sysconfig.get_paths()[root]).rglob("*") if path.is_file()]
    rng.shuffle(files)
    for path in files:
        try:
            text = path.read_bytes()[:300_000].decode()
        except (UnicodeDecodeError, OSError):
            continue
        for start in range(0, len(text), PIECE):
            yield text[start : start + PIECE]


@pytest.mark.soak
def test_a_corpus_of_many_languages_is_encoded_alike(tokenizer: Path) -> None:
    """Whole documents of the standard tier that $SNOW_CORPUS names, up to 2,000 a language by the order of their ids; counts are printed."""
    folder = os.environ.get("SNOW_CORPUS") or pytest.skip("set SNOW_CORPUS to a corpus artefact of many languages")
    languages: dict[str, list[tuple[str, str]]] = {}
    for row in read_documents(Path(folder) / "standard"):
        languages.setdefault(row["language"], []).append((row["id"], row["text"]))
    texts = [text for rows in languages.values() for _, text in sorted(rows)[:2000]]
    print({language: min(len(rows), 2000) for language, rows in languages.items()})
    for name, mine, theirs in pairs(tokenizer):
        for start in range(0, len(texts), 500):
            batch = texts[start : start + 500]
            (ids, lengths), (expected, expected_lengths) = mine._encode(batch), theirs.encode(batch)
            same = np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths)
            assert same, (name, next(text for text in batch if not mine.agrees([text]))[:200])
        print(name, len(texts), "alike", flush=True)


@pytest.mark.parametrize("count", [1000, pytest.param(110_000, marks=pytest.mark.soak)])
def test_encoded_alike(tokenizer: Path, count: int) -> None:
    rng = random.Random(count)
    sources = [invented(rng), real(rng)]
    encoders = list(pairs(tokenizer))
    done = 0
    while done < count:
        texts = [text for source in sources for text in islice(source, min(1000, count // 2))]
        assert texts
        for name, mine, theirs in encoders:
            (ids, lengths), (expected, expected_lengths) = mine._encode(texts), theirs.encode(texts)
            if not (np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths)):
                raise AssertionError((name, next(text for text in texts if not mine.agrees([text]))))
        done += len(texts)
    assert done >= count


def test_a_word_pattern_written_anew_is_what_runs(tokenizer: Path) -> None:
    """GPT-2's and StarCoder's words get the quick form; others stay as they are."""
    model = json.loads((tokenizer / "tokenizer.json").read_text())
    for name, words in WORDS.items():
        text = json.dumps(model if words is None else {**model, "pre_tokenizer": words})
        assert (fast._quick(text) != text) == (name in ("gpt2", "starcoder"))
