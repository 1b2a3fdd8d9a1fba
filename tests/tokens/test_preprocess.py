"""tools/preprocess_data.py against megatron-core: its tokenizer classes and its builder, driven as Megatron-LM's tool does."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import load_tokenizer
from megatron_snow.tokens.flags import preprocess_main
from megatron_snow.tokens.given import GivenTokenizer, TokenizerFlags, given_tokenizer
from megatron_snow.tokens.indexed import IndexedDataset, bin_path, idx_path
from megatron_snow.tokens.preprocess import PreprocessOptions, dataset_prefix, preprocess
from megatron_snow.tokens.writer import verify_checksums

ROOT = Path(__file__).parents[2]


def reference(prefix: Path, rows: Sequence[dict[str, Any]], key: str, tokenize: Callable[[str], list[int]], vocabulary: int, end: int | None) -> None:
    """What Megatron-LM's tool does with one key (tools/preprocess_data.py, Encoder.encode and Partition.process_json_file)."""
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=DType.optimal_dtype(vocabulary))
    for row in rows:
        ids: list[int] = []
        lengths: list[int] = []
        for sentence in row[key] if isinstance(row[key], list) else [row[key]]:
            if found := tokenize(sentence):
                ids.extend(found)
                lengths.append(len(found))
        if ids and end is not None:
            ids.append(end)
            lengths[-1] += 1
        builder.add_document(ids, lengths)
    builder.finalize(f"{prefix}.idx")


def same(one: Path, other: Path) -> bool:
    return all(path(one).read_bytes() == path(other).read_bytes() for path in (bin_path, idx_path))


@pytest.fixture(scope="module")
def rows(corpus: Path) -> list[dict[str, Any]]:
    texts = [d["text"] for d in read_documents(corpus / "standard")]
    odd = ["", "<|endoftext|>", "a <|endoftext|> b<fim_prefix>", "\u2028 \x00 é中🙂", " ", "\n" * 50]
    return [{"text": text, "parts": [text[:50], "", text[50:90]], "n": float("nan")} for text in odd + [text for text in texts if len(text) < 9000][:14]]


@pytest.fixture(scope="module")
def jsonl(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def bos_tokenizer(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that puts a token before every text, as Llama's do."""
    from tokenizers import Tokenizer, processors

    folder = tmp_path_factory.mktemp("bos") / "tokenizer"
    shutil.copytree(tokenizer, folder)
    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.post_processor = processors.TemplateProcessing(single="<repo_name> $A", special_tokens=[("<repo_name>", 1)])
    loaded.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("which", ["tokenizer", "bos_tokenizer"])
def test_hugging_face_tokenizers(which: str, include: bool, rows: list[dict[str, Any]], jsonl: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from megatron.core.tokenizers.text.libraries.huggingface_tokenizer import HuggingFaceTokenizer

    folder = request.getfixturevalue(which)
    theirs = HuggingFaceTokenizer(str(folder), use_fast=True, include_special_tokens=include)
    flags = ["--input", str(jsonl), "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(folder), "--workers", "1"]
    flags += ["--json-keys", "text", "parts", "--append-eod", "--output-prefix", str(tmp_path / "ours")]
    assert preprocess_main(flags if include else [*flags, "--tokenizer-hf-no-include-special-tokens"]) == 0
    for key in ("text", "parts"):
        reference(tmp_path / f"theirs_{key}", rows, key, theirs.text_to_ids, theirs.vocab_size, theirs.eod)
        assert same(tmp_path / f"ours_{key}_document", tmp_path / f"theirs_{key}")
        assert verify_checksums(tmp_path / f"ours_{key}_document")
    assert IndexedDataset(tmp_path / "ours_parts_document").header.sequences > len(rows)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".bin", ".idx", ".sha256")]


def test_gpt2_files(tokenizer: Path, rows: list[dict[str, Any]], jsonl: Path, tmp_path: Path) -> None:
    from transformers import GPT2TokenizerFast

    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    made = given_tokenizer(TokenizerFlags("GPT2BPETokenizer", vocab_file=str(tmp_path / "vocab.json"), merge_file=str(tmp_path / "merges.txt")))
    options = PreprocessOptions([str(jsonl)], tmp_path / "ours", workers=1, append_eod=True)
    preprocess(options, made)
    reference(tmp_path / "theirs", rows, "text", lambda text: theirs(text).input_ids, len(theirs), theirs.eos_token_id)
    assert same(dataset_prefix(options, "text"), tmp_path / "theirs")


def test_sentencepiece(rows: list[dict[str, Any]], jsonl: Path, tmp_path: Path) -> None:
    import sentencepiece
    from megatron.core.tokenizers.text.libraries.sentencepiece_tokenizer import SentencePieceTokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(row["text"][:2000].replace("\x00", "") for row in rows[6:]),
        model_prefix=str(tmp_path / "sp"),
        vocab_size=400,
        byte_fallback=True,
        num_threads=1,
        minloglevel=2,
    )
    theirs = SentencePieceTokenizer(str(tmp_path / "sp.model"))
    for kind in ("Llama2Tokenizer", "GPTSentencePieceTokenizer"):
        made = given_tokenizer(TokenizerFlags(kind, str(tmp_path / "sp.model")))
        options = PreprocessOptions([str(jsonl)], tmp_path / kind, workers=2, append_eod=True)
        preprocess(options, made)
        reference(tmp_path / "theirs", rows, "text", theirs.text_to_ids, theirs.vocab_size, theirs.eod)
        assert same(dataset_prefix(options, "text"), tmp_path / "theirs")


def test_partitions_give_megatron_s_order(tokenizer: Path, rows: list[dict[str, Any]], jsonl: Path, tmp_path: Path) -> None:
    made = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer)))
    plain = PreprocessOptions([str(jsonl)], tmp_path / "plain", workers=1)
    preprocess(plain, made)
    documents = IndexedDataset(dataset_prefix(plain, "text"))
    dealt = PreprocessOptions([str(jsonl)], tmp_path / "dealt", workers=2, partitions=3)
    preprocess(dealt, made)
    order = [i for lane in range(3) for i in range(lane, len(rows), 3)]
    found = IndexedDataset(dataset_prefix(dealt, "text"))
    assert [found.doc(i).tolist() for i in range(len(found))] == [documents.doc(i).tolist() for i in order]
    kept = PreprocessOptions([str(jsonl)], tmp_path / "kept", workers=1, partitions=3, keep_sequential_samples=True)
    preprocess(kept, made)
    assert same(dataset_prefix(kept, "text"), dataset_prefix(plain, "text"))
    assert len(list(tmp_path.iterdir())) == 9


def test_kinds_of_input_give_the_same(tokenizer: Path, rows: list[dict[str, Any]], jsonl: Path, tmp_path: Path) -> None:
    import pyarrow
    import zstandard
    from pyarrow import parquet

    made = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer / "tokenizer.json")))
    raw = jsonl.read_bytes()
    (tmp_path / "0.jsonl.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "1.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(raw))
    parquet.write_table(pyarrow.Table.from_pylist([{"text": row["text"]} for row in rows]), tmp_path / "2.parquet")
    (tmp_path / "3.jsonl").write_bytes(raw)
    many = PreprocessOptions([f"{tmp_path}/[0-3]*"], tmp_path / "many", workers=1)
    assert preprocess(many, made)["documents"] == 4 * len(rows)
    four = PreprocessOptions([str(tmp_path / "four.jsonl")], tmp_path / "four", workers=1)
    (tmp_path / "four.jsonl").write_bytes(raw * 4)
    preprocess(four, made)
    assert same(dataset_prefix(many, "text"), dataset_prefix(four, "text"))


SCRIPT = """
import os, sys
from pathlib import Path
from megatron_snow.tokens.encoder import load_tokenizer
from megatron_snow.tokens.given import GivenTokenizer
from megatron_snow.tokens.preprocess import PreprocessOptions, preprocess
code = load_tokenizer(Path(sys.argv[1]))
made = GivenTokenizer(code.spec, code.vocabulary, 0)
def work(prefix):
    preprocess(PreprocessOptions(sys.argv[4:], Path(prefix), ["parts"], True, 1, int(sys.argv[3]), commit_bytes=1), made)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def small_files(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A commit falls behind every file."""
    folder = tmp_path_factory.mktemp("small")
    for i in range(12):
        raw = "".join(json.dumps(row) + "\n" for row in rows[i : i + 4]).encode()
        (folder / f"{i:02d}.jsonl{'.gz' * (i % 2)}").write_bytes(gzip.compress(raw) if i % 2 else raw)
    return [str(path) for path in sorted(folder.iterdir())]


def straight(folder: Path, tokenizer: Path, files: list[str], partitions: int) -> PreprocessOptions:
    code = load_tokenizer(tokenizer)
    options = PreprocessOptions(files, folder / "straight", ["parts"], append_eod=True, workers=1, partitions=partitions)
    preprocess(options, GivenTokenizer(code.spec, code.vocabulary, 0))
    return options


@pytest.mark.parametrize("partitions", [1, 2])
def test_killed_at_any_moment_it_goes_on_and_writes_the_same_bytes(tokenizer: Path, small_files: list[str], tmp_path: Path, partitions: int) -> None:
    expected = straight(tmp_path, tokenizer, small_files, partitions)
    note = tmp_path / "killed.progress.json"
    command = [sys.executable, "-c", SCRIPT + "work(sys.argv[2])", str(tokenizer), str(tmp_path / "killed"), str(partitions), *small_files]
    reached = [0]
    for _ in range(3):
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        before = note.read_text() if note.exists() else None
        while process.poll() is None and (not note.exists() or note.read_text() == before):
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(json.loads(note.read_text())["rows"])
    assert reached == sorted(set(reached))  # each went on from where the one before had stopped
    subprocess.run(command, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL)
    for key in expected.json_keys:
        assert same(tmp_path / f"killed_{key}_document", dataset_prefix(expected, key))
    assert not list(tmp_path.glob("*.part")) and not note.exists()


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.soak)])
def test_killed_at_random_again_and_again(tokenizer: Path, small_files: list[str], tmp_path: Path, kills: int) -> None:
    """Kills after random times, most of them in the middle of the work, each new run going on from what the last one left."""
    expected = straight(tmp_path, tokenizer, small_files, 2)
    rng = random.Random(kills)
    for turn in range(kills):
        prefix = tmp_path / f"killed{turn // 4}"
        command = [sys.executable, "-c", SCRIPT + "print('ready', flush=True); work(sys.argv[2])", str(tokenizer), str(prefix), "2", *small_files]
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if turn % 4 == 3:
            subprocess.run(command, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            assert all(same(tmp_path / f"{prefix.name}_{key}_document", dataset_prefix(expected, key)) for key in expected.json_keys)


EVERY_STEP = """
for last in range(200):
    if os.fork() == 0:
        left = [last]
        def hook(event, arguments):
            if event in ("os.rename", "os.remove"):
                left[0] -= 1
                if left[0] < 0: os._exit(9)
        sys.addaudithook(hook)
        work(sys.argv[2] + str(last))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    print(code)
    if code != 9: break
"""


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_kill_before_any_move_or_removal_can_be_gone_on_from(tokenizer: Path, small_files: list[str], tmp_path: Path, partitions: int) -> None:
    """Each file operation in turn is the one before which the process ends."""
    files = small_files[:2]
    expected = straight(tmp_path, tokenizer, files, partitions)
    command = [sys.executable, "-c", SCRIPT + EVERY_STEP, str(tokenizer), str(tmp_path / "killed"), str(partitions), *files]
    done = subprocess.run(command, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) > 10 and codes == [9] * (len(codes) - 1) + [0]
    code = load_tokenizer(tokenizer)
    for last in range(len(codes)):
        options = PreprocessOptions(files, tmp_path / f"killed{last}", expected.json_keys, append_eod=True, workers=1, partitions=partitions, commit_bytes=1)
        preprocess(options, GivenTokenizer(code.spec, code.vocabulary, 0))
        assert all(same(dataset_prefix(options, key), dataset_prefix(expected, key)) for key in expected.json_keys), last
        assert len(list(tmp_path.glob(f"killed{last}[._]*"))) == 3, last


def test_a_changed_input_starts_over(tokenizer: Path, jsonl: Path, tmp_path: Path) -> None:
    made = given_tokenizer(TokenizerFlags("HuggingFaceTokenizer", str(tokenizer)))
    shutil.copy(jsonl, tmp_path / "b.jsonl")
    options = PreprocessOptions([str(tmp_path / "b.jsonl")], tmp_path / "x", workers=1, commit_bytes=1)
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write("broken\n")
    with pytest.raises(SnowError, match=r"b.jsonl, line 21: not JSON"):
        preprocess(options, made)
    shutil.copy(jsonl, tmp_path / "b.jsonl")
    preprocess(options, made)
    assert len(IndexedDataset(dataset_prefix(options, "text"))) == 20


def run(*flags: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "preprocess_data.py"), *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_script(tokenizer: Path, jsonl: Path, tmp_path: Path) -> None:
    code, said = run(
        *["--input", str(jsonl), "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(tokenizer), "--output-prefix", str(tmp_path / "x")],
        *["--workers", "1", "--log-interval", "5"],
    )
    assert code == 0, said
    assert "Processed" in said and "20 documents" in said
    assert len(IndexedDataset(tmp_path / "x_text_document")) == 20
    code, said = run("--input", "x", "--tokenizer-type", "HuggingFaceTokenizer", "--output-prefix", "x", "--append-eos")
    assert code == 2 and "unknown flag --append-eos; did you mean --append-eod?" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--output-prefix", "{tmp}/no/x"], "does not exist; make it first"),
        (["--input", "{tmp}/none.jsonl"], "no such file"),
        (["--tokenizer-model", "{tmp}"], "there is no tokenizer.json"),
        (["--tokenizer-model", "{tmp}/broken.json"], "no Hugging Face tokenizer that can be loaded"),
        (["--tokenizer-model", "no such/name"], "no Hugging Face tokenizer that can be loaded"),
        (["--vocab-file", "x"], "--vocab-file belongs to --tokenizer-type GPT2BPETokenizer or BertWordPieceLowerCase"),
        (["--tokenizer-type", "GPT2BPETokenizer"], "needs --vocab-file"),
        (["--tokenizer-type", "GPT2BPETokenizer", "--vocab-file", "{tmp}/broken.json", "--merge-file", "{tmp}/broken.json"], "are not a GPT-2 vocabulary"),
        (["--tokenizer-type", "Llama2Tokenizer", "--tokenizer-model", "{tmp}/broken.json"], "is no sentencepiece model"),
        (["--tokenizer-type", "SFTTokenizer"], "invalid choice: 'SFTTokenizer'"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/broken.json"], "is no tiktoken vocabulary"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/gap.tiktoken"], "ranks must go from 0 to 1 without a gap"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/few.tiktoken"], "no token for the single byte 0x02"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/bytes.tiktoken"], "has 256 byte strings, .* give --vocab-size 1256"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/bytes.tiktoken", "--vocab-size", "900"], "less than the vocabulary's 900"),
        (["--tokenizer-type", "TikTokenizer", "--tokenizer-model", "{tmp}/bytes.tiktoken", "--tokenizer-special-tokens", "</s>"], "lacks <unk>, <s>, <mask>"),
        (["--tokenizer-type", "BertWordPieceCase", "--vocab-file", "{tmp}/broken.json"], "is not a BERT vocabulary"),
        (["--tokenizer-type", "NullTokenizer"], "needs --vocab-size"),
        (["--tokenizer-type", "NullTokenizer", "--vocab-size", "9"], "NullTokenizer takes token ids with one space between them"),
        (["--tiktoken-pattern", "v1"], "--tiktoken-pattern belongs to --tokenizer-type TikTokenizer, not to HuggingFaceTokenizer"),
        (["--workers", "0"], "0 is not a positive number"),
        (["--json-keys", "text", "text"], "a key is named twice"),
        (["--json-keys", "body"], "no key 'body'; it has 'text', 'parts', 'n'"),
        (["--keep-newlines"], "--keep-newlines belongs to --split-sentences"),
        (["--split-sentences", "--nltk-data", "{tmp}"], "there is no .*punkt_tab/english; get it with: python -m nltk.downloader -d .* punkt_tab"),
        (["--split-sentences", "--nltk-data", "{tmp}/damaged"], "is no whole Punkt model"),
        (["--split-sentences", "--nltk-data", "{tmp}/damaged", "--lang", "old"], "old.pickle is there, but a pickle is not read"),
        (["--split-sentences", "--lang", "klingon"], "klingon: no such sentence model; there are czech, .*english"),
        (["--split-sentences", "--json-keys", "parts"], "a value is a list of texts already; leave out --split-sentences"),
        (["--append-eod", "--tokenizer-model", "{tmp}/noeos.json"], "names no end-of-sequence token"),
    ],
)
def test_bad_flags_are_named(tokenizer: Path, jsonl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], complaint: str) -> None:
    (tmp_path / "broken.json").write_text("{]")
    every = [base64.b64encode(bytes([i])).decode() for i in range(256)]
    for name, ranks in {"gap": {0: 0, 1: 2}, "few": {0: 0, 1: 1}, "bytes": {i: i for i in range(256)}}.items():
        (tmp_path / f"{name}.tiktoken").write_text("".join(f"{every[token]} {rank}\n" for token, rank in ranks.items()))
    (tmp_path / "damaged/tokenizers/punkt_tab/english").mkdir(parents=True)
    (tmp_path / "damaged/tokenizers/punkt").mkdir()
    (tmp_path / "damaged/tokenizers/punkt/old.pickle").touch()
    shutil.copy(tokenizer / "tokenizer.json", tmp_path / "noeos.json")
    if any(word in flags for word in ("BertWordPieceCase", "NullTokenizer")):
        flags = [*flags, "--tokenizer-model", ""]
    defaults = {"--input": str(jsonl), "--tokenizer-type": "HuggingFaceTokenizer", "--tokenizer-model": str(tokenizer), "--output-prefix": str(tmp_path / "x")}
    given = [word for flag, value in defaults.items() if flag not in flags for word in (flag, value)]
    assert preprocess_main([*given, *(flag.format(tmp=tmp_path) for flag in flags)]) == 2
    assert re.search(complaint, capsys.readouterr().err)
