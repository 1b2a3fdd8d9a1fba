"""The tokenizers Megatron-LM's flags name, as ``EncoderSpec``s: same ids, same vocabulary size, same end-of-document id.

Followed: Megatron-LM as of 2026-08, megatron/core/tokenizers. Its ``HuggingFaceTokenizer`` calls the tokenizer as a
model would, so special tokens spelled out in a text become special, and what the tokenizer puts around a text (a
Llama's ``<s>``) is written; releases 0.15 and 0.16 leave the latter out unless asked.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens import ranks
from megatron_snow.tokens.encoder import EncoderSpec
from megatron_snow.tokens.hub import load

HUGGING_FACE = "HuggingFaceTokenizer"
GPT2 = "GPT2BPETokenizer"
BERT = ("BertWordPieceLowerCase", "BertWordPieceCase")
SENTENCEPIECE = ("SentencePieceTokenizer", "GPTSentencePieceTokenizer", "Llama2Tokenizer")
TIKTOKEN = "TikTokenizer"
NUMBERS = "NullTokenizer"
TYPES = (HUGGING_FACE, GPT2, *BERT, *SENTENCEPIECE, TIKTOKEN, NUMBERS)
_EXTRA_IDS = 100  # <extra_id_0> and on, which Megatron-LM adds to BertWordPieceCase


@dataclass(frozen=True)
class GivenTokenizer:
    """A tokenizer named by flags."""

    spec: EncoderSpec
    vocabulary: int
    end_of_document: int | None
    """None where the tokenizer has none; then ``--append-eod`` cannot be."""


@dataclass(frozen=True)
class TokenizerFlags:
    """The flags that name a tokenizer, under Megatron-LM's names."""

    tokenizer_type: str
    tokenizer_model: str | None = None
    vocab_file: str | None = None
    merge_file: str | None = None
    vocab_size: int | None = None
    tokenizer_special_tokens: Sequence[str] = ()
    tiktoken_pattern: str | None = None
    tiktoken_num_special_tokens: int = 1000
    include_special_tokens: bool = True
    """Not ``--tokenizer-hf-no-include-special-tokens``."""


def given_tokenizer(flags: TokenizerFlags) -> GivenTokenizer:
    """The tokenizer that ``--tokenizer-type`` and its companions name. Raises SnowError where a flag is missing, too many or a file unusable."""
    kind = flags.tokenizer_type
    _check(flags)
    if kind == GPT2:
        return _gpt2(Path(str(flags.vocab_file)), Path(str(flags.merge_file)), flags.tokenizer_special_tokens)
    if kind in BERT:
        return _bert(Path(str(flags.vocab_file)), kind == BERT[0], flags)
    if kind == NUMBERS:
        size = int(flags.vocab_size or 0)
        return GivenTokenizer(EncoderSpec("numbers", ""), size, size - 1)
    model = str(flags.tokenizer_model)
    if kind in SENTENCEPIECE:
        return _sentencepiece(Path(model))
    if kind == TIKTOKEN:
        return _tiktoken(Path(model), flags)
    loaded = load(model, flags.tokenizer_special_tokens)
    spec = EncoderSpec("hugging_face", loaded.text, as_text=False, add_special_tokens=flags.include_special_tokens)
    return GivenTokenizer(spec, loaded.vocabulary, loaded.end)


def _check(flags: TokenizerFlags) -> None:
    """Which flags each type needs and takes."""
    kind = flags.tokenizer_type
    needed = {GPT2: ("vocab_file", "merge_file"), **dict.fromkeys(BERT, ("vocab_file",)), NUMBERS: ("vocab_size",)}.get(kind, ("tokenizer_model",))
    meant = {"vocab_file": "vocab.txt" if kind in BERT else "vocab.json", "merge_file": "merges.txt", "vocab_size": "a number"} | {
        "tokenizer_model": "a .model file"
        if kind in SENTENCEPIECE
        else "a .json or .tiktoken file"
        if kind == TIKTOKEN
        else "a folder, tokenizer.json or hub name"
    }
    if missing := [name for name in needed if not getattr(flags, name)]:
        raise SnowError(f"--tokenizer-type {kind} needs " + " and ".join(f"--{name.replace('_', '-')} ({meant[name]})" for name in missing))
    takers = {
        "vocab_file": (GPT2, *BERT), "merge_file": (GPT2,), "vocab_size": (TIKTOKEN, NUMBERS), "tiktoken_pattern": (TIKTOKEN,),
        "tokenizer_special_tokens": (HUGGING_FACE, GPT2, TIKTOKEN, BERT[0]),
    }  # fmt: skip
    for name, kinds in takers.items():
        if getattr(flags, name) and kind not in kinds:
            raise SnowError(f"--{name.replace('_', '-')} belongs to --tokenizer-type {' or '.join(kinds)}, not to {kind}; leave it out")


def _tiktoken(path: Path, flags: TokenizerFlags) -> GivenTokenizer:
    if importlib.util.find_spec("tiktoken") is None:
        raise SnowError("a TikTokenizer needs the package tiktoken: pip install 'megatron_snow[tools]'")
    special = flags.tokenizer_special_tokens or ranks.SPECIAL
    model = ranks.pack(path, flags.tiktoken_pattern, flags.vocab_size, flags.tiktoken_num_special_tokens, special)
    return GivenTokenizer(EncoderSpec("tiktoken", model), flags.vocab_size or ranks.VOCABULARY, list(special).index(ranks.END))


def _bert(vocab_file: Path, lower: bool, flags: TokenizerFlags) -> GivenTokenizer:
    """BERT's word pieces from its vocab.txt, as transformers' BertTokenizer makes them; a document ends with [SEP]."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    try:
        words = {line: i for i, line in enumerate(vocab_file.read_text(encoding="utf-8").splitlines())}
        tokenizer = Tokenizer(models.WordPiece(vocab=words, unk_token="[UNK]"))
        around = [(token, words[token]) for token in ("[SEP]", "[CLS]")]
    except (OSError, ValueError, KeyError) as error:
        raise SnowError(f"--vocab-file {vocab_file} is not a BERT vocabulary, one token a line with [CLS] and [SEP] among them ({error})") from error
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(*around)
    named = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    extra = list(flags.tokenizer_special_tokens) if lower else [f"<extra_id_{i}>" for i in range(_EXTRA_IDS)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*named, *extra)])
    spec = EncoderSpec("hugging_face", tokenizer.to_str(), as_text=False, add_special_tokens=flags.include_special_tokens)
    return GivenTokenizer(spec, tokenizer.get_vocab_size(with_added_tokens=True), words["[SEP]"])


def _gpt2(vocab_file: Path, merge_file: Path, special: Sequence[str]) -> GivenTokenizer:
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
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (end, *special)])
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
    return f"{spec.kind} {spec.as_text} {spec.add_special_tokens} {spec.sentences} ".encode() + model
