"""tools/indexed_dataset.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megatron_snow.tokens.encoder import load_tokenizer
from megatron_snow.tokens.flags import dataset_main
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.writer import IndexedWriter, write_checksums

TEXTS = ["def f(x):\n    return x\n", "", "print('hello')\n"]


@pytest.fixture
def dataset(tokenizer: Path, tmp_path: Path) -> Path:
    ids, lengths = load_tokenizer(tokenizer).spec.build().encode(TEXTS)
    with IndexedWriter(tmp_path / "data", np.dtype("<u2")) as out:
        for some in np.split(ids, np.cumsum(lengths)[:-1]):
            out.add(some)
        out.finish()
    return tmp_path / "data"


def test_inspect_shows_counts_and_a_decoded_document(dataset: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = IndexedDataset(dataset)
    assert dataset_main(["inspect", str(dataset), "--document", "0", "--tokenizer", str(tokenizer)]) == 0
    said = capsys.readouterr().out
    assert TEXTS[0] in said and " ".join(map(str, data.doc(0))) in said
    assert f"3 documents, 3 sequences, {data.tokens} tokens (uint16)" in said
    assert dataset_main(["inspect", str(dataset), "--tokens", "2", "--tokenizer", str(tokenizer / "tokenizer.json")]) == 0
    assert "the first 2" in capsys.readouterr().out
    assert dataset_main(["inspect", str(dataset), "--document", "3"]) == 2
    assert "documents 0 to 2" in capsys.readouterr().err
    assert dataset_main(["inspect", str(dataset), "--tokenizer", str(dataset.parent)]) == 2
    assert "no Hugging Face tokenizer.json there" in capsys.readouterr().err


def test_verify(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset_main(["verify", str(dataset)]) == 0
    assert "no .sha256 beside it" in capsys.readouterr().out
    write_checksums(dataset)
    assert dataset_main(["verify", str(dataset), str(dataset), "--vocabulary", "1000"]) == 0
    assert capsys.readouterr().out.count("checked structure, every token, checksums") == 2
    raw = bytearray(dataset.with_suffix(".bin").read_bytes())
    raw[0] ^= 1
    dataset.with_suffix(".bin").write_bytes(raw)
    assert dataset_main(["verify", str(dataset)]) == 2
    assert "data.bin does not match its checksum" in capsys.readouterr().err
    assert dataset_main(["verify", str(dataset.parent / "none")]) == 2


def test_merge(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset_main(["merge", str(dataset), str(dataset), "--output-prefix", str(tmp_path / "both")]) == 0
    one, both = IndexedDataset(dataset), IndexedDataset(tmp_path / "both")
    assert [both.doc(i).tolist() for i in range(6)] == 2 * [one.doc(i).tolist() for i in range(3)]
    assert dataset_main(["verify", str(tmp_path / "both")]) == 0
    assert "checksums" in capsys.readouterr().out
    assert dataset_main(["merge", str(dataset), "--output-prefix", str(dataset)]) == 2
    assert "is also an input" in capsys.readouterr().err
    assert dataset_main(["merge", str(dataset), "--output-prefix", str(tmp_path / "no" / "x")]) == 2
    with IndexedWriter(tmp_path / "wide", np.dtype("<i4")) as out:
        out.finish()
    assert dataset_main(["merge", str(dataset), str(tmp_path / "wide"), "--output-prefix", str(tmp_path / "bad")]) == 2
    assert "different vocabularies" in capsys.readouterr().err
    assert not list(tmp_path.glob("bad*"))


def test_an_empty_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with IndexedWriter(tmp_path / "empty", np.dtype("<u2")) as out:
        out.finish()
    assert dataset_main(["inspect", str(tmp_path / "empty")]) == 0
    assert dataset_main(["verify", str(tmp_path / "empty"), "--vocabulary", "5"]) == 0
    assert "0 documents" in capsys.readouterr().out
    assert dataset_main(["merge", str(tmp_path / "empty"), str(tmp_path / "empty"), "--output-prefix", str(tmp_path / "more")]) == 0
