"""Fill in the middle, applied to a sample as it is read: a file's text as prefix, suffix and middle, in one of two orders.

StarCoder2's rule (arXiv 2402.19173, section 5): a document (a repository) is chosen with probability ``rate``, then each
of its files with ``file_rate``; what names the repository and the file's path stays where it is; the text is cut at two
of its characters; ``spm_rate`` of the files are laid down suffix first. With the special tokens of ``tokens.special``:

    PSM  <fim_prefix> prefix <fim_suffix> suffix <fim_middle> middle
    SPM  <fim_prefix> <fim_suffix> suffix <fim_middle> prefix middle

What is chosen and where it is cut is a function of the seed, the document's place in its tier, the file's place in the
document and the pass over the tier: the same in every process and after every restart, another in every pass. A file
that a sample cuts is treated as the part of it that the sample has; nothing crosses a document's end.

Three tokens more a file, and a few where the cuts fall into tokens: samples keep their length. As in the published
implementations the room is taken from a suffix (here the sample's last, where that is enough), else from the sample's
end; documents move back by as much. A part whose new form came out shorter is left alone, so nothing is ever padded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.sample import Sample, Span
from megatron_snow.blend.settings import FimSettings
from megatron_snow.tokens.encoder import load_tokenizer, parse_tokenizer
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.special import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, REPOSITORY_NAME, SPECIAL_TOKENS

Tokens = npt.NDArray[np.int64]

_LOOK_BACK = 2**16  # tokens read at a time on the way back to a file's beginning (ours)
_BROKEN = "\ufffd"  # what a decoder writes for part of a character
_PARTS = 4  # bytes a character has at most, so tokens that can hold part of one
_PROBES = (" a\n\tb  c\r\n", "é中🙂 e\u0301 ﬁ²", "<|endoftext|>", "\n\n  x = 'it''s' # 12345\n")


@dataclass(frozen=True)
class _Part:
    """A run of a sample's tokens that is kept whole, or is a text to be filled in."""

    tokens: Tokens
    head: Tokens
    """In the new form: what stands before the first special token of fill in the middle (a path)."""
    suffix: Tokens
    rest: tuple[Tokens, Tokens]
    """In the new form: the tokens between head and suffix, and behind the suffix."""

    def filled(self, cut: int = 0) -> Tokens:
        """The new form with ``cut`` tokens off the suffix's end."""
        return np.concatenate([self.head, self.rest[0], self.suffix[: len(self.suffix) - cut], self.rest[1]])


class FillInTheMiddle:
    """A ``Transform`` of a ``PhaseDataset``. Can be pickled: only the arguments travel, the tokenizer is read where it is used."""

    def __init__(self, settings: FimSettings, tokens: Path, tokenizer: Path, seed: int) -> None:
        """``tokens``: the tiers, as the dataset has them. ``tokenizer``: the tokenizer arrow's folder.

        Raises SnowError where the tokenizer lacks a special token or does not give every text back.
        """
        self._arguments = (settings, tokens, tokenizer, seed)
        self.settings, self._tokens, self._seed = settings, Path(tokens), seed
        code = load_tokenizer(Path(tokenizer))
        self._special = code.special
        self._structure = np.array(sorted(code.special[token] for token in SPECIAL_TOKENS))
        self._tokenizer: Any = parse_tokenizer(str(code.spec.model))
        self._tokenizer.encode_special_tokens = True  # what spells one out is text
        self._shards: dict[tuple[str, str], IndexedDataset] = {}
        for probe in _PROBES:
            if (found := self._text(self._ids(probe))) != probe:
                raise SnowError(
                    f"fim: the tokenizer in {tokenizer} gives {found!r} back for {probe!r}; fill in the middle needs one that keeps every text "
                    "(byte-level BPE without a normalizer): take another tokenizer, or leave fim out"
                )

    def __reduce__(self) -> tuple:
        return FillInTheMiddle, self._arguments

    def __call__(self, sample: Sample) -> Sample:
        """The sample with the chosen files rearranged; as many tokens and pieces as before."""
        size = len(sample.tokens)
        made: list[Tokens] = []
        at = 0
        boundaries = np.full_like(sample.boundaries, size)
        for piece, span in enumerate(sample.spans):
            boundaries[piece] = at
            for part in self._parts(sample.tokens[sample.boundaries[piece] : sample.boundaries[piece + 1]], span):
                new = _fitting(part, size - at)
                made.append(new)
                at += len(new)
        return sample.with_tokens(np.concatenate(made), boundaries)

    def _parts(self, tokens: Tokens, span: Span) -> list[_Part | Tokens]:
        if self._draw(span, None)[0] >= self.settings.rate:
            return [tokens]
        marks = np.flatnonzero(np.isin(tokens, self._structure)).tolist()
        parts: list[_Part | Tokens] = []
        for start, end in zip([0, *(mark + 1 for mark in marks)], [*marks, len(tokens)], strict=True):
            opening = int(tokens[start - 1]) if start else self._opening(span)
            text = tokens[start:end]
            chosen = len(text) and opening != self._special[REPOSITORY_NAME] and self._draw(span, start)[0] < self.settings.file_rate
            parts.append((self._part(text, span, start) if chosen else None) or text)
            parts.append(tokens[end : end + 1])
        return parts

    def _part(self, tokens: Tokens, span: Span, start: int) -> _Part | None:
        """A file's tokens taken apart; None where there is no text in them, or the new form is shorter than the old."""
        before, inside, behind = self._whole_characters(tokens)
        path, text = self._behind_the_path(self._text(inside), span, start)
        if not text:
            return None
        _, order, first, second = self._draw(span, start)
        low, high = sorted((int(first * (len(text) + 1)), int(second * (len(text) + 1))))
        prefix, middle, suffix = (self._ids(piece) for piece in (text[:low], text[low:high], text[high:]))
        begin, middle_mark, end = ([self._special[token]] for token in (FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX))
        if order < self.settings.spm_rate:
            rest = _joined(begin, end), _joined(middle_mark, prefix, middle)
        else:
            rest = _joined(begin, prefix, end), _joined(middle_mark, middle)
        part = _Part(tokens, _joined(before, self._ids(path)), _joined(suffix, behind), rest)
        return part if len(part.filled()) >= len(tokens) else None

    def _whole_characters(self, tokens: Tokens) -> tuple[Tokens, Tokens, Tokens]:
        """Tokens at either end that hold only part of a character, where a sample cuts one, set apart."""
        start, end = 0, len(tokens)
        while start < min(_PARTS, end) and self._text(tokens[start : start + _PARTS]).startswith(_BROKEN):
            start += 1
        while end > max(start, len(tokens) - _PARTS) and self._text(tokens[max(start, end - _PARTS) : end]).endswith(_BROKEN):
            end -= 1
        return tokens[:start], tokens[start:end], tokens[end:]

    def _behind_the_path(self, text: str, span: Span, start: int) -> tuple[str, str]:
        """A file's text without its path, which is a line of its own where the document names its repository."""
        data = self._shard(span)
        if int(data.doc(span.document)[0]) != self._special[REPOSITORY_NAME]:
            return "", text
        if start == 0 and span.first > 0 and self._in_the_text(data.doc(span.document)[: span.first]):
            return "", text
        path, line_end, code = text.partition("\n")
        return path + line_end, code

    def _in_the_text(self, before: npt.NDArray[Any]) -> bool:
        """Whether what follows ``before`` in a document that names paths is behind a file's path line."""
        return "\n" in self._text(before[_last(before, self._structure) + 1 :][:_LOOK_BACK])

    def _opening(self, span: Span) -> int:
        """The special token before the tokens a piece begins with; -1 where there is none."""
        before = self._shard(span).doc(span.document)[: span.first]
        last = _last(before, self._structure)
        return int(before[last]) if last >= 0 else -1

    def _draw(self, span: Span, start: int | None) -> tuple[float, float, float, float]:
        """Four numbers in [0, 1) for a document in a pass, or for what lies in it from ``start`` of the piece on."""
        place = "" if start is None else str(span.first + start)
        name = f"{self._seed}\0{span.tier}\0{span.shard}\0{span.document}\0{span.epoch}\0{place}"
        raw = hashlib.blake2b(name.encode(), digest_size=24).digest()
        first, second, third, fourth = (int.from_bytes(raw[i : i + 6], "big") / 2**48 for i in range(0, 24, 6))
        return first, second, third, fourth

    def _shard(self, span: Span) -> IndexedDataset:
        found = self._shards.get((span.tier, span.shard))
        if found is None:
            found = self._shards[span.tier, span.shard] = IndexedDataset(self._tokens / span.tier / span.shard)
        return found

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def _text(self, ids: npt.NDArray[Any] | list[int]) -> str:
        return self._tokenizer.decode(list(map(int, ids)), skip_special_tokens=False)


def _fitting(part: _Part | Tokens, room: int) -> Tokens:
    """A part's tokens, at most ``room``: what is too much comes off the suffix, or, where that is too short, off the old form."""
    if not isinstance(part, _Part):
        return part[:room]
    over = max(0, len(part.filled()) - room)
    return part.filled(over) if over < len(part.suffix) or not over else part.tokens[:room]


def _joined(*runs: Any) -> Tokens:
    return np.concatenate([np.asarray(run, np.int64) for run in runs])


def _last(tokens: npt.NDArray[Any], marks: npt.NDArray[Any]) -> int:
    """Where the last of ``marks`` stands; -1 where there is none."""
    for end in range(len(tokens), 0, -_LOOK_BACK):
        start = max(0, end - _LOOK_BACK)
        found = np.flatnonzero(np.isin(tokens[start:end], marks))
        if len(found):
            return start + int(found[-1])
    return -1
