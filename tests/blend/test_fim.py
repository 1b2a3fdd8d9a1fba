"""Fill in the middle on real code, tokenized by the tokenize arrow: nothing is lost, nothing leaves its place, rates are kept."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend.dataset import PhaseDataset
from megatron_snow.blend.fim import FillInTheMiddle
from megatron_snow.blend.sample import Sample, Span
from megatron_snow.blend.settings import FimSettings
from megatron_snow.tokens import load_tokenizer, tokenize
from megatron_snow.tokens.encoder import parse_tokenizer
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.settings import TierFormat, TokenizerSettings, TokenizerTraining, TokenizeSettings
from megatron_snow.tokens.tokenizer import train_tokenizer
from megatron_snow.training.samples import phase_samples
from tests.tokens.conftest import stdlib_documents
from tests.training.small import phase

ALWAYS = FimSettings(rate=1, file_rate=1)
ODD = ["🙂" * 40 + "é中\n" * 30, "x", "\n\n\n", 's = "<fim_prefix><|endoftext|>"\n', "a = 1\r\n\tb = 2  \n"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(tiers, tokenizer): ``named`` with repositories and paths named, ``bare`` without, ``odd`` of single odd files."""
    folder = tmp_path_factory.mktemp("fim")
    files = list(stdlib_documents(("json", "http", "logging"), limit=8))
    odd: Any = [{**files[0], "id": f"odd/{i}", "text": text, "repository": f"odd{i}"} for i, text in enumerate(ODD * 3)]
    write_documents(folder / "corpus" / "standard", files)
    write_documents(folder / "odd", odd)
    small: Any = [{**files[0], "id": f"small/{i}", "text": f"x = {i}\ny = 'abcdefgh'\n", "repository": "small"} for i in range(10)]
    small.append({**small[0], "id": "small/last", "text": "z = 5\n" * 400})  # has room for what the others take
    write_documents(folder / "small", small)
    (folder / "tokenizer").mkdir()
    train_tokenizer(TokenizerSettings(train=TokenizerTraining(vocabulary=700, sample=200_000)), folder / "corpus", folder / "tokenizer")
    tiers = {"named": folder / "corpus" / "standard", "bare": folder / "corpus" / "standard", "odd": folder / "odd", "small": folder / "small"}
    forms = {"named": TierFormat(repository_metadata=1), "bare": TierFormat(repository_metadata=0), "odd": TierFormat(grouping="file", repository_metadata=0)}
    forms["small"] = forms["bare"]
    (folder / "tokens").mkdir()
    tokenize(TokenizeSettings(tiers=forms, workers=1), 1, tiers, folder / "tokenizer", folder / "tokens")
    return folder / "tokens", folder / "tokenizer"


class Reader:
    """Samples in words, independent of how they were made."""

    def __init__(self, tokenizer: Path) -> None:
        loaded = load_tokenizer(tokenizer)
        self.special, self._tokenizer = loaded.special, parse_tokenizer(str(loaded.spec.model))

    def text(self, tokens: Any) -> str:
        return self._tokenizer.decode([int(t) for t in tokens], skip_special_tokens=False)

    def runs(self, tokens: Any) -> list[tuple[int, bytes]]:
        """(special token before it, bytes) of each file or name; fill in the middle undone."""
        opening = [self.special[name] for name in ("<repo_name>", "<file_sep>", "<|endoftext|>")]
        found: list[tuple[int, list[int]]] = [(-1, [])]
        for token in tokens.tolist():
            if token in opening:
                found.append((token, []))
            else:
                found[-1][1].append(token)
        return [(token, self.undone(run)) for token, run in found]

    def undone(self, run: list[int]) -> bytes:
        before, middle, suffix = (self.special[name] for name in ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"))
        if before not in run:
            return self.bytes(run)
        assert run.count(before) == run.count(middle) == run.count(suffix) == 1
        a, b, c = run.index(before), run.index(suffix), run.index(middle)
        assert a < b < c
        return self.bytes(run[:a]) + self.bytes(run[a + 1 : b]) + self.bytes(run[c + 1 :]) + self.bytes(run[b + 1 : c])

    def bytes(self, run: list[int]) -> bytes:
        """The bytes behind byte-level tokens, parts of characters included."""
        if not hasattr(self, "_bytes"):
            letters = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's letters for bytes
            others = [byte for byte in range(256) if byte not in letters]
            table = {chr(byte): byte for byte in letters} | {chr(256 + i): byte for i, byte in enumerate(others)}
            ids = range(self._tokenizer.get_vocab_size())
            self._bytes = {i: bytes(table[c] for c in self._tokenizer.id_to_token(i)) for i in ids if i not in self.special.values()}
        return b"".join(self._bytes[token] for token in run)


def datasets(code: tuple[Path, Path], tier: str, length: int, settings: FimSettings = ALWAYS, samples: int = 0) -> tuple[PhaseDataset, PhaseDataset]:
    tokens, tokenizer = code
    whole = PhaseDataset(tokens, {tier: 1}, length, 1, seed=3)
    samples = samples or min(120, max(1, int(1.5 / whole.epochs(tier))))
    transform = FillInTheMiddle(settings, tokens, tokenizer, seed=3)
    return PhaseDataset(tokens, {tier: 1}, length, samples, 3), PhaseDataset(tokens, {tier: 1}, length, samples, 3, transform=transform)


@pytest.mark.parametrize(("tier", "length"), [("named", 3000), ("named", 101), ("bare", 997), ("bare", 64), ("odd", 150), ("odd", 17)])
def test_undone_it_is_the_text_that_was_there(code: tuple[Path, Path], tier: str, length: int) -> None:
    plain, filled = datasets(code, tier, length)
    reader = Reader(code[1])
    changed = cut = 0
    for i in range(len(plain)):
        old, new = plain.sample(i), filled.sample(i)
        assert new.tokens.shape == old.tokens.shape and new.tokens.dtype == np.int64 and new.spans == old.spans
        assert (np.diff(new.boundaries) >= 0).all()
        before, after = reader.runs(old.tokens), reader.runs(new.tokens)
        assert after[:-1] == before[: len(after) - 1]  # every file but the last is whole
        assert after[-1][0] == before[len(after) - 1][0] and before[len(after) - 1][1].startswith(after[-1][1])
        cut += sum(len(text) for _, text in before) - sum(len(text) for _, text in after)
        changed += reader.special["<fim_middle>"] in new.tokens
        for piece, span in enumerate(new.spans):  # boundaries went along
            at = new.boundaries[piece]
            if span.first == 0 and at < len(new.tokens):
                assert new.tokens[at] == IndexedDataset(code[0] / span.tier / span.shard).doc(span.document)[0]
    assert changed > len(plain) / 2 and cut > 0


def test_what_names_repository_and_path_stays_outside(code: tuple[Path, Path]) -> None:
    plain, filled = datasets(code, "named", 2111)
    reader = Reader(code[1])
    marks = set(reader.special.values())
    inside = 0
    for i in range(len(plain)):
        for piece, span in enumerate(filled.sample(i).spans):
            new = filled.sample(i)
            document = IndexedDataset(code[0] / span.tier / span.shard).doc(span.document)
            run = new.tokens[new.boundaries[piece] : new.boundaries[piece + 1]].tolist()
            for at in [k for k, token in enumerate(run) if token == reader.special["<fim_prefix>"]]:
                head = []
                while at - 1 - len(head) >= 0 and run[at - 1 - len(head)] not in marks:
                    head.insert(0, run[at - 1 - len(head)])
                opened = at - 1 - len(head)
                if opened >= 0:  # the file begins in this sample: exactly its path stands before
                    assert run[opened] == reader.special["<file_sep>"]
                    assert reader.bytes(head).count(b"\n") == 1 and reader.bytes(head).endswith(b".py\n")
                    inside += 1
                else:  # it began before: what stands before is the rest of a path, or bytes of a cut character
                    back = document[: span.first].tolist()
                    start = max(k for k, token in enumerate(back) if token in marks)
                    assert back[start] == reader.special["<file_sep>"]
                    assert (reader.bytes(back[start + 1 :]) + reader.bytes(head)).count(b"\n") >= 1
    assert inside > 15


def test_rates(code: tuple[Path, Path]) -> None:
    tokens, tokenizer = code
    reader = Reader(tokenizer)
    transform = FillInTheMiddle(FimSettings(rate=0.5, file_rate=0.6, spm_rate=0.3), tokens, tokenizer, 5)
    document = IndexedDataset(tokens / "small" / "00000").doc(0).astype(np.int64)
    files = int((document == reader.special["<file_sep>"]).sum())
    chosen, every, filled, suffix_first, cuts = 0, 0, 0, 0, []
    passes = 400
    for epoch in range(passes):
        sample = Sample(document, np.array([0, len(document)]), lambda epoch=epoch: [Span("small", "00000", 0, 0, len(document), epoch)])  # type: ignore[misc]
        new = transform(sample).tokens.tolist()
        begins = [k for k, token in enumerate(new) if token == reader.special["<fim_prefix>"]]
        chosen += bool(begins)
        lasts = max(k for k, token in enumerate(new) if token == reader.special["<file_sep>"])
        filled += len([k for k in begins if k < lasts])
        every += len([k for k in begins if k > lasts])
        suffix_first += sum(new[k + 1] == reader.special["<fim_suffix>"] for k in begins if k > lasts)  # elsewhere an empty prefix looks the same
        if begins and new[begins[0] + 1] != reader.special["<fim_suffix>"]:
            cuts.append(new.index(reader.special["<fim_suffix>"]) - begins[0] - 1)
    assert files == 11
    assert stats.binomtest(chosen, passes, 0.5).pvalue > 1e-4  # all files of a chosen document escape with 0.4^10
    assert stats.binomtest(filled, chosen * (files - 1), 0.6).pvalue > 1e-4
    assert stats.binomtest(suffix_first, every, 0.3).pvalue > 1e-4
    assert len(set(cuts)) > 10


def test_another_pass_is_another_cut_and_the_same_sample_always_the_same(code: tuple[Path, Path]) -> None:
    tokens, tokenizer = code
    _, filled = datasets(code, "bare", 500)
    again = pickle.loads(pickle.dumps(filled))  # noqa: S301 - our own bytes: what a loader's worker receives
    for i in reversed(range(len(filled))):
        assert np.array_equal(filled[i], again[i])
    script = (
        "import sys, json; from pathlib import Path; from megatron_snow.blend.dataset import PhaseDataset; "
        "from megatron_snow.blend.fim import FillInTheMiddle; from megatron_snow.blend.settings import FimSettings; "
        "tokens, tokenizer = map(Path, sys.argv[1:3]); "
        "data = PhaseDataset(tokens, {'bare': 1}, 500, 4, 3, transform=FillInTheMiddle(FimSettings(rate=1, file_rate=1), tokens, tokenizer, 3)); "
        "print(json.dumps([data[i].tolist() for i in (3, 0)]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "5"}
    other = subprocess.run([sys.executable, "-c", script, str(tokens), str(tokenizer)], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == [filled[i].tolist() for i in (3, 0)]
    document = IndexedDataset(tokens / "bare" / "00000").doc(0).astype(np.int64)

    def read(epoch: int, seed: int) -> bytes:
        span = Span("bare", "00000", 0, 0, len(document), epoch)
        return FillInTheMiddle(ALWAYS, tokens, tokenizer, seed)(Sample(document, np.array([0, len(document)]), lambda: [span])).tokens.tobytes()

    assert len({read(epoch, seed) for epoch in range(4) for seed in range(3)}) == 12
    assert read(2, 1) == read(2, 1)


def test_none_chosen_is_none_changed(code: tuple[Path, Path]) -> None:
    for settings in (FimSettings(rate=0), FimSettings(rate=1, file_rate=0)):
        plain, filled = datasets(code, "named", 128, settings, samples=30)
        assert all(np.array_equal(plain[i], filled[i]) for i in range(30))


def test_the_middle_is_learned_from_uniform_cuts(code: tuple[Path, Path]) -> None:
    """Where a prefix of a file of n characters ends: the smaller of two uniform cuts."""
    transform = FillInTheMiddle(ALWAYS, *code, 1)
    lows = []
    for epoch in range(3000):
        _, _, a, b = transform._draw(Span("bare", "00000", 0, 0, 1, epoch), 7)
        lows.append(min(a, b))
    assert stats.kstest(lows, lambda x: 1 - (1 - np.asarray(x)) ** 2).pvalue > 1e-4
    assert Counter(int(low * 4) for low in lows).keys() == {0, 1, 2, 3}


def test_a_tokenizer_that_loses_text_is_refused(code: tuple[Path, Path], tmp_path: Path) -> None:
    model = json.loads((code[1] / "tokenizer.json").read_text())
    model["normalizer"] = {"type": "NFKC"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(model))
    with pytest.raises(SnowError, match=r"fim: the tokenizer .* gives .* back"):
        FillInTheMiddle(ALWAYS, code[0], tmp_path, 1)


def test_the_phase_asks_for_it(code: tuple[Path, Path]) -> None:
    tokens, tokenizer = code
    asked = phase(blend={"bare": 1}, fim={"rate": 1, "file_rate": 1}, max_epochs=1e6)
    with pytest.raises(SnowError, match="asks for fim, which needs the tokenizer"):
        phase_samples("general", asked, tokens, 1)
    mark = load_tokenizer(tokenizer).special["<fim_middle>"]
    assert any(mark in phase_samples("general", asked, tokens, 1, tokenizer=tokenizer)[i] for i in range(8))
    plain = asked.model_copy(update={"fim": None})
    assert not any(mark in phase_samples("general", plain, tokens, 1)[i] for i in range(8))
