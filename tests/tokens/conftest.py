"""Real code for these tests: files of the Python standard library as a tier, and a tokenizer learned from them."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.tokens.settings import TokenizerSettings, TokenizerTraining
from megatron_snow.tokens.tokenizer import train_tokenizer

VOCABULARY = 1000


def stdlib_documents(folders: tuple[str, ...] = ("json", "email", "logging", "http", "xml/dom"), limit: int = 40) -> Iterator[Document]:
    """Files of some packages of the standard library, each package a repository, in the standard tier's order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for folder in sorted(folders):
        for path in sorted((root / folder).glob("*.py"))[:limit]:
            if text := path.read_text(encoding="utf-8"):
                yield {
                    "id": f"stdlib/{folder}/{path.name}",
                    "text": text,
                    "language": "Python",
                    "repository": folder,
                    "path": path.name,
                    "license": "PSF-2.0",
                    "source": "stdlib",
                }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder with a standard tier of three shards."""
    folder = tmp_path_factory.mktemp("corpus")
    write_documents(folder / "standard", stdlib_documents(), shard_bytes=400_000)
    return folder


@pytest.fixture(scope="session")
def tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer arrow's folder."""
    work = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerSettings(train=TokenizerTraining(vocabulary=VOCABULARY, sample=500_000)), corpus, work)
    return work
