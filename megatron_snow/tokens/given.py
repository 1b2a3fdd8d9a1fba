"""The tokenizers Megatron-LM's flags name, as ``EncoderSpec``s: same ids, same vocabulary size, same end-of-document id.

Followed: Megatron-LM as of 2026-08, megatron/core/tokenizers. Its ``HuggingFaceTokenizer`` calls the tokenizer as a
model would, so special tokens spelled out in a text become special, and what the tokenizer puts around a text (a
Llama's ``<s>``) is written; releases 0.15 and 0.16 leave the latter out unless asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import EncoderSpec

HUGGING_FACE = "HuggingFaceTokenizer"
GPT2 = "GPT2BPETokenizer"
SENTENCEPIECE = ("SentencePieceTokenizer", "GPTSentencePieceTokenizer", "Llama2Tokenizer")
TYPES = (HUGGING_FACE, GPT2, *SENTENCEPIECE)


@dataclass(frozen=True)
class GivenTokenizer:
    """A tokenizer named by flags."""

    spec: EncoderSpec
    vocabulary: int
    end_of_document: int | None
    """None where the tokenizer has none; then ``--append-eod`` cannot be."""


def given_tokenizer(kind: str, model: str | None, vocab_file: str | None, merge_file: str | None, include_special_tokens: bool) -> GivenTokenizer:
    """The tokenizer that ``--tokenizer-type`` and its companions name. Raises SnowError where a flag is missing or a file unusable."""
    if kind == GPT2:
        if not vocab_file or not merge_file:
            raise SnowError(f"--tokenizer-type {GPT2} needs --vocab-file (vocab.json) and --merge-file (merges.txt)")
        return _gpt2(Path(vocab_file), Path(merge_file))
    if not model:
        raise SnowError(
            f"--tokenizer-type {kind} needs --tokenizer-model: " + ("a .model file" if kind in SENTENCEPIECE else "a folder, tokenizer.json or hub name")
        )
    if vocab_file or merge_file:
        raise SnowError(f"--vocab-file and --merge-file belong to --tokenizer-type {GPT2}, not to {kind}; leave them out")
    return _sentencepiece(Path(model)) if kind in SENTENCEPIECE else _hugging_face(model, include_special_tokens)


def _hugging_face(model: str, include_special_tokens: bool) -> GivenTokenizer:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(model)
    if path.is_file():  # Megatron-LM takes the folder; the file beside its configuration means the same
        folder = path.parent if path.name == "tokenizer.json" and (path.parent / "tokenizer_config.json").exists() else None
    elif path.exists() or model.startswith(("/", ".", "~")):
        folder = path
        if not (path / "tokenizer.json").exists():
            raise SnowError(f"--tokenizer-model {model}: there is no tokenizer.json; give the folder of a Hugging Face tokenizer, or the file itself")
    else:
        folder = None
    try:
        if path.is_file() and folder is None:
            fast: Any = PreTrainedTokenizerFast
            loaded = fast(tokenizer_file=str(path))
        else:
            loaded = AutoTokenizer.from_pretrained(folder or model, trust_remote_code=False)
        text = loaded.backend_tokenizer.to_str()
    except Exception as error:  # whatever the loaders raise, from broken JSON to no network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SnowError(f"--tokenizer-model {model}: no Hugging Face tokenizer that can be loaded ({reason}); give its folder or tokenizer.json") from error
    end = loaded.eos_token or loaded.sep_token
    spec = EncoderSpec("hugging_face", text, as_text=False, add_special_tokens=include_special_tokens)
    return GivenTokenizer(spec, len(loaded), None if end is None else loaded.convert_tokens_to_ids(end))


def _gpt2(vocab_file: Path, merge_file: Path) -> GivenTokenizer:
    """GPT-2's byte-level BPE from its two files, as transformers' GPT2TokenizerFast makes it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    try:
        vocabulary = json.loads(vocab_file.read_text(encoding="utf-8"))
        lines = merge_file.read_text(encoding="utf-8").splitlines()
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines if line and not line.startswith("#version"))]
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # unreadable, not JSON, or merges of what is no token
        raise SnowError(f"--vocab-file {vocab_file} and --merge-file {merge_file} are not a GPT-2 vocabulary: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    tokenizer.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    spec = EncoderSpec("hugging_face", tokenizer.to_str(), as_text=False)
    return GivenTokenizer(spec, tokenizer.get_vocab_size(with_added_tokens=True), tokenizer.token_to_id(end))


def _sentencepiece(path: Path) -> GivenTokenizer:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise SnowError("a sentencepiece model needs the package sentencepiece: pip install 'megatron_snow[tools]'") from error
    try:
        model = path.read_bytes()
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except (OSError, RuntimeError) as error:
        raise SnowError(f"--tokenizer-model {path} is no sentencepiece model: {error}") from error
    end = processor.eos_id()
    return GivenTokenizer(EncoderSpec("sentencepiece", model), processor.get_piece_size(), None if end < 0 else end)


def fingerprint_text(spec: EncoderSpec) -> bytes:
    """The bytes that decide what a spec encodes to."""
    model = spec.model if isinstance(spec.model, bytes) else spec.model.encode()
    return f"{spec.kind} {spec.as_text} {spec.add_special_tokens} ".encode() + model
