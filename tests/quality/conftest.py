"""A real corpus of a hundred-odd files, a real encoder, and a small one of the same architecture where only mechanics are tested."""

import shutil
import sysconfig
from pathlib import Path

import numpy
import pytest
import torch

from megatron_snow.artifacts.documents import write_documents
from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.tokens.special import SPECIAL_TOKENS

MODULES = (
    "json",
    "email",
    "collections",
    "asyncio",
    "concurrent",
    "ctypes",
    "curses",
    "dbm",
    "html",
    "http",
    "importlib",
    "logging",
    "multiprocessing",
    "sqlite3",
    "unittest",
    "wsgiref",
    "xml",
    "zoneinfo",
)


def _document(source, repository, path, text, language):
    return {"id": f"{source}/{repository}/{path}", "text": text, "language": language, "repository": repository, "path": path, "license": "", "source": source}


def collect():
    """Files of the standard library (a module is a repository) and of numpy's C headers (three repositories), as documents."""
    library = Path(sysconfig.get_path("stdlib"))
    documents = []
    for module in MODULES:
        for path in sorted((library / module).glob("*.py"))[:7]:
            documents.append(_document("stdlib", f"python/cpython/{module}", path.relative_to(library).as_posix(), path.read_text("utf-8"), "Python"))
    headers = Path(numpy.get_include()) / "numpy"
    for number, path in enumerate(sorted(headers.glob("*.h"))[:24]):
        documents.append(_document("distributions", f"numpy{number % 3}", path.name, path.read_text("utf-8"), "C"))
    return sorted((d for d in documents if d["text"]), key=lambda d: (d["language"], d["repository"]))


@pytest.fixture(scope="session")
def documents():
    return collect()


@pytest.fixture(scope="session")
def corpus(documents, tmp_path_factory):
    """The corpus arrow's folder, cut into several shards; its held-out part is rubbish, so that reading it fails."""
    folder = tmp_path_factory.mktemp("corpus")
    write_documents(folder / "standard", documents, shard_bytes=400_000)
    (folder / "heldout").mkdir()
    (folder / "heldout" / "00000.jsonl.zst").write_bytes(b"not a shard")
    return folder


@pytest.fixture(scope="session")
def tokenizer(documents, tmp_path_factory):
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([d["text"] for d in documents[:20]], vocab_size=600, special_tokens=list(SPECIAL_TOKENS))
    trained.save(str(folder / "tokenizer.json"))
    return folder


def random_encoder(folder):
    """A BERT of two layers with random weights and the real tokenizer: same code path, hundreds of sections a second."""
    from transformers import BertConfig, BertModel

    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(fixture("all-MiniLM-L6-v2") / name, folder)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = BertConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, max_position_embeddings=512)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory):
    return random_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def settings(small_encoder):
    """Settings that run in a second or two; ``settings(tokens=..)`` changes some."""

    def make(**changes):
        positives = [{"kind": "repositories", "globs": ["python/cpython/[a-h]*"], "count": 30}]
        values = {"encoder": str(small_encoder), "pooling": "mean", "section": 32, "positives": positives, "negatives": 40, "tokens": 60_000}
        return AnnotateSettings.model_validate({**values, "head": {"epochs": 5, "learning_rate": 1e-2}, **changes})

    return make
