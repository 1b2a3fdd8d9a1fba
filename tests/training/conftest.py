"""Tokens and a tokenizer for the whole folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import small


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")
