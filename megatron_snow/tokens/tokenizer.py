"""The tokenizer arrow: a byte-level BPE learned from a sample of the standard tier, or one that is given.

Words are cut by one pattern (``WORDS``) before merges are learned: GPT-2's as StarCoder has it (digits one at a time),
but letters take any one sign before them along, not only a space (as GPT-4's): ``.append``, ``_name``, ``(x``. On held
out files of the standard library that is 4.5 % fewer tokens than StarCoder's at 8,192 entries and 7 % at 32,768.
Unlike GPT-4's, signs do not take the line end after them, so that a prompt whose last line end is stripped (as the
paper does for HumanEval) still ends where training text has a token boundary. All 256 bytes are in the alphabet and
nothing is normalised: every text decodes to itself. The paper does not say which tokenizer it used.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import PREFIX, resolve
from megatron_snow.artifacts.manifest import file_sha256
from megatron_snow.artifacts.progress import say, track
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.tokens.encoder import HuggingFaceEncoder, load_tokenizer, parse_tokenizer
from megatron_snow.tokens.settings import TokenizerSettings, TokenizerTraining
from megatron_snow.tokens.special import END_OF_TEXT, SPECIAL_TOKENS

WORDS = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+"  # letters, with one sign, space or tab before them
    r"|\p{N}"  # digits one at a time: numbers are spelt, not memorised
    r"| ?[^\s\p{L}\p{N}]+"  # signs
    r"|\s+(?!\S)"  # line ends with the indentation after them, but for the last blank, which belongs to the word
    r"|\s+"
)
_SHOWN = 200_000  # characters a language's characters per token are measured on (ours: some 0.1 s, exact to a percent)


def train_tokenizer(settings: TokenizerSettings, corpus: Path, work: Path) -> dict[str, Any]:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``work``; ``AutoTokenizer`` loads the folder.

    ``<|endoftext|>`` is its end, begin and padding token; a trained one has it as id 0, then the other special tokens.
    The same corpus and settings give the same bytes. ``work/summary.json``, and what is returned: vocabulary;
    sample_files, sample_bytes and characters_per_token by language (0, 0 and {} where the tokenizer was given);
    special: id of each special token; longest: the 20 longest tokens.
    Raises SnowError where the given tokenizer cannot be used or the corpus is empty.
    """
    sample: list[Document] = []
    if settings.train:
        sample = _sample(corpus / "standard", settings.train.sample)
        if not sample:
            raise SnowError(f"{corpus / 'standard'} holds no document: nothing to learn a tokenizer from; look at the corpus arrow's funnel")
        tokenizer = _train(settings.train, sample)
    else:
        tokenizer = _given(str(settings.path))
    write_atomically(work / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    write_atomically(work / "tokenizer_config.json", json.dumps(_config(), indent=1, sort_keys=True).encode())
    summary = _summary(work, sample)
    write_atomically(work / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    return summary


def tokenizer_fingerprint(settings: TokenizerSettings) -> str:
    """What the result depends on beside settings and corpus: the given tokenizer's file, where it is a local one."""
    if settings.path is None or settings.path.startswith(PREFIX):
        return ""
    path = Path(settings.path)
    path = path / "tokenizer.json" if path.is_dir() else path
    return file_sha256(path) if path.is_file() else ""


def _rank(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")


def _sample(tier: Path, size: int) -> list[Document]:
    """Whole files, smallest hash of their id first, until they hold ``size`` bytes: one pass, memory bounded by ``size``."""
    heap: list[tuple[int, str, Document]] = []  # the kept files, largest hash first out
    held = 0
    for document in track(read_documents(tier), "reading a sample", unit="files"):
        rank = -_rank(document["id"])
        if held >= size and rank < heap[0][0]:
            continue
        heapq.heappush(heap, (rank, document["id"], document))
        held += len(document["text"].encode())
        while held - (least := len(heap[0][2]["text"].encode())) >= size:
            heapq.heappop(heap)
            held -= least
    return [document for _, _, document in sorted(heap, reverse=True)]


def _train(settings: TokenizerTraining, sample: list[Document]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    size = sum(len(document["text"].encode()) for document in sample)
    say(f"  learning {settings.vocabulary} tokens from {len(sample)} files, {format_bytes(size)}")
    tokenizer.train_from_iterator((document["text"] for document in sample), trainer, length=len(sample))
    if (made := tokenizer.get_vocab_size(with_added_tokens=True)) < settings.vocabulary:
        raise SnowError(
            f"the sample ({len(sample)} files, {format_bytes(size)}) has pairs for {made} tokens, tokenizer.train.vocabulary asks for "
            f"{settings.vocabulary}: ask for at most {made} or give a larger corpus"
        )
    return tokenizer


def _given(reference: str) -> Any:
    """The tokenizer behind a path, fixture or hub name, with every special token."""
    from tokenizers import AddedToken

    tokenizer = parse_tokenizer(_given_text(reference))
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        say(f"  {reference} lacks {', '.join(missing)}: added behind its {tokenizer.get_vocab_size()} tokens")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    if tokenizer.encode("", add_special_tokens=True).ids:
        say(f"  {reference} puts special tokens of its own around a text: documents are written without them")
    return tokenizer


def _given_text(reference: str) -> str:
    path = Path(resolve(reference))
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        if path.exists() or reference.startswith((PREFIX, "/", ".", "~")) or reference.endswith(".json"):
            raise SnowError(f"tokenizer.path {reference}: there is no {file}; give a tokenizer.json, a folder that holds one, or the name of a hub tokenizer")
        return _hub_text(reference)
    try:
        text = file.read_text(encoding="utf-8")
        parse_tokenizer(text)
    except (ValueError, OSError) as error:
        raise SnowError(f"tokenizer.path {reference}: {file} is not a Hugging Face tokenizer.json ({error})") from error
    return text


def _hub_text(name: str) -> str:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        return str(loaded.backend_tokenizer.to_str())
    except Exception as error:  # whatever the hub client raises, from a wrong name to no network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SnowError(
            f"tokenizer.path {name}: neither a local path nor a hub tokenizer that can be loaded ({reason}); check the name, or give a tokenizer.json"
        ) from error


def _config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,  # the model's configuration limits the length, not the tokenizer
    }


def _summary(work: Path, sample: list[Document]) -> dict[str, Any]:
    tokenizer = load_tokenizer(work)
    encoder = HuggingFaceEncoder(tokenizer.spec)
    texts: dict[str, list[str]] = {}
    for document in sample:
        texts.setdefault(document["language"], []).append(document["text"])
    shown = {language: _first(some, _SHOWN) for language, some in sorted(texts.items())}
    per_token = {language: round(sum(map(len, some)) / max(sum(encoder.count(some)), 1), 3) for language, some in shown.items()}
    words = parse_tokenizer(str(tokenizer.spec.model))
    longest = sorted((words.decode([i], skip_special_tokens=False) for i in range(words.get_vocab_size())), key=lambda token: (-len(token), token))[:20]
    return {
        "vocabulary": tokenizer.vocabulary,
        "sample_files": len(sample),
        "sample_bytes": sum(len(document["text"].encode()) for document in sample),
        "characters_per_token": per_token,
        "special": tokenizer.special,
        "longest": longest,
    }


def _first(texts: list[str], characters: int) -> list[str]:
    """Whole texts from the front, one at least, until they hold ``characters``."""
    taken, held = [], 0
    for text in texts:
        if held >= characters:
            break
        taken.append(text[:characters])
        held += len(taken[-1])
    return taken
