"""The tokenize arrow: documents as laid down, shards that survive kills, counts that add up."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import zstandard

from megatron_snow.artifacts.documents import read_documents, write_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens import IndexedDataset, load_tokenizer, tokenize
from megatron_snow.tokens.encoder import parse_tokenizer
from megatron_snow.tokens.settings import TierFormat, TokenizeSettings

SMALL = TokenizeSettings(shard=100_000, document=200_000, workers=1)


def sidecar(prefix: Path) -> list[dict[str, Any]]:
    with prefix.with_name(prefix.name + ".documents.jsonl.zst").open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        return [orjson.loads(line) for line in io.BufferedReader(stream)]


def prefixes(tier: Path) -> list[Path]:
    return [path.with_suffix("") for path in sorted(tier.glob("*.idx"))]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def tiers(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiers")
    write_documents(folder / "synthetic", list(read_documents(corpus / "standard"))[:5])
    return {"standard": corpus / "standard", "synthetic": folder / "synthetic"}


@pytest.fixture(scope="module")
def tokens(tiers: dict[str, Path], tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("tokens")
    tokenize(SMALL, 1, tiers, tokenizer, work)
    return work


def test_documents_read_back_as_they_were_laid_down(tokens: Path, tiers: dict[str, Path], tokenizer: Path) -> None:
    loaded = load_tokenizer(tokenizer)
    decoder = parse_tokenizer(str(loaded.spec.model))
    assert len(prefixes(tokens / "standard")) > 2
    formats = set()
    for tier, path in tiers.items():
        files = {d["id"]: d for d in read_documents(path)}
        seen: list[str] = []
        for prefix in prefixes(tokens / tier):
            data = IndexedDataset(prefix)
            data.verify(loaded.vocabulary)
            assert data.dtype == np.uint16
            rows = sidecar(prefix)
            assert len(rows) == len(data)
            for row, document in zip(rows, map(data.doc, range(len(data))), strict=True):
                some = [files[name] for name in row["ids"]]
                assert {d["repository"] for d in some} == {row["repository"]} and {d["language"] for d in some} == {row["language"]}
                text = decoder.decode(document.tolist(), skip_special_tokens=False)
                if row["metadata"]:
                    expected = f"<repo_name>{row['repository']}" + "".join(f"<file_sep>{d['path']}\n{d['text']}" for d in some)
                else:
                    expected = "".join(f"<file_sep>{d['text']}" for d in some)
                assert text == expected + "<|endoftext|>"
                assert row["ends"][-1] == len(document) - 1
                start = 0
                for d, end in zip(some, row["ends"], strict=True):
                    assert decoder.decode(document[start:end].tolist(), skip_special_tokens=False).endswith(d["text"])
                    start = end
                formats.add((tier, row["metadata"], len(some) > 1))
                seen += row["ids"]
        assert seen == list(files)  # every file once, in the tier's order
    assert {("standard", True, True), ("standard", False, True), ("synthetic", False, False)} <= formats
    assert not any(metadata for tier, metadata, _ in formats if tier == "synthetic")


def test_megatron_reads_the_shards(tokens: Path) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronDataset

    for prefix in prefixes(tokens / "standard"):
        ours, theirs = IndexedDataset(prefix), MegatronDataset(str(prefix))
        assert len(ours) == len(theirs) == len(theirs.document_indices) - 1
        assert all(np.array_equal(ours.doc(i), theirs[i]) for i in range(len(ours)))


def test_counts_add_up(tokens: Path, tiers: dict[str, Path]) -> None:
    summary = json.loads((tokens / "summary.json").read_text())
    for tier, counts in summary["tiers"].items():
        data = [IndexedDataset(prefix) for prefix in prefixes(tokens / tier)]
        files = list(read_documents(tiers[tier]))
        assert counts["tokens"] == sum(d.tokens for d in data) == sum(one["tokens"] for one in counts["languages"].values())
        assert counts["documents"] == sum(map(len, data))
        assert counts["files"] == len(files) and counts["characters"] == sum(len(f["text"]) for f in files)
        assert counts["shards"] == len(data)
        assert counts["characters_per_token"] == pytest.approx(counts["characters"] / counts["tokens"], abs=1e-3)
    assert summary["tokens"] == sum(one["tokens"] for one in summary["tiers"].values())


def test_special_tokens_spelled_out_in_a_file_stay_text(tmp_path: Path, tokenizer: Path) -> None:
    text = 'eos = "<|endoftext|>"\nfim = "<fim_prefix>"\n'
    row = {"id": "s/r/a.py", "text": text, "language": "Python", "repository": "<repo_name>", "path": "a.py", "license": "", "source": "s"}
    write_documents(tmp_path / "tier", [row])  # type: ignore[list-item]
    work = tmp_path / "work"
    work.mkdir()
    tokenize(TokenizeSettings(format=TierFormat(repository_metadata=1)), 1, {"standard": tmp_path / "tier"}, tokenizer, work)
    document = IndexedDataset(work / "standard" / "00000").doc(0).tolist()
    special = load_tokenizer(tokenizer).special
    assert [t for t in document if t in special.values()] == [special["<repo_name>"], special["<file_sep>"], special["<|endoftext|>"]]


def test_more_workers_and_other_cuts_between_shards_change_no_token(tokens: Path, tiers: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    tokenize(SMALL.model_copy(update={"workers": 2}), 1, tiers, tokenizer, tmp_path / "two")
    assert contents(tmp_path / "two") == contents(tokens)
    (tmp_path / "one").mkdir()
    tokenize(SMALL.model_copy(update={"shard": 10**9}), 1, tiers, tokenizer, tmp_path / "one")
    assert len(prefixes(tmp_path / "one" / "standard")) == 1
    joined = b"".join(path.with_suffix(".bin").read_bytes() for path in prefixes(tokens / "standard"))
    assert (tmp_path / "one" / "standard" / "00000.bin").read_bytes() == joined
    (tmp_path / "seed").mkdir()
    tokenize(SMALL, 2, tiers, tokenizer, tmp_path / "seed")
    assert contents(tmp_path / "seed") != contents(tokens)


def test_grouped_by_repository(tiers: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"format": TierFormat(grouping="repository")})
    tokenize(settings, 1, {"standard": tiers["standard"]}, tokenizer, tmp_path)
    rows = [row for prefix in prefixes(tmp_path / "standard") for row in sidecar(prefix)]
    assert sorted(name for row in rows for name in row["ids"]) == sorted(d["id"] for d in read_documents(tiers["standard"]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["standard", "summary.json"]  # the gathered rows are gone


def test_killed_at_any_moment_it_goes_on_and_writes_the_same_bytes(tokens: Path, tiers: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from megatron_snow.tokens import tokenize; from megatron_snow.tokens.settings import TokenizeSettings; "
        f"tokenize(TokenizeSettings.model_validate_json({SMALL.model_dump_json()!r}), 1, dict(standard=Path(sys.argv[1]), synthetic=Path(sys.argv[2])), "
        "Path(sys.argv[3]), Path(sys.argv[4]))"
    )
    command = [sys.executable, "-c", script, str(tiers["standard"]), str(tiers["synthetic"]), str(tokenizer), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done: dict[Path, int] = {}
    for wanted in (1, 2, 3):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(tmp_path.glob("*/*.json"))) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path, modified in done.items():
            assert path.stat().st_mtime_ns == modified  # a finished shard is not touched again
        done = {
            path: path.stat().st_mtime_ns for marker in tmp_path.glob("*/*.json") for path in (marker, marker.with_suffix(".bin"), marker.with_suffix(".idx"))
        }
        assert len(done) >= 3 * wanted
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert contents(tmp_path) == contents(tokens)


def test_bad_input_is_named(tiers: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"holds no \*.jsonl.zst shard"):
        tokenize(SMALL, 1, {"standard": tmp_path / "absent"}, tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SnowError, match="run 'snow tokenizer' first"):
        tokenize(SMALL, 1, tiers, tmp_path, tmp_path)
    write_documents(tmp_path / "empty", [])
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(SnowError, match=r"the synthetic tier .* holds no document"):
        tokenize(SMALL, 1, {"synthetic": tmp_path / "empty"}, tokenizer, work)
    (work / "standard").mkdir()
    (work / "standard" / "00000.json").write_text("{}")
    with pytest.raises(SnowError, match=r"00000.json is damaged"):
        tokenize(SMALL, 1, tiers, tokenizer, work)
