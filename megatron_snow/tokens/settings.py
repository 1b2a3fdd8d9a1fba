"""What a recipe says about the tokenizer and about how files become training documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Bytes
from megatron_snow.tokens.special import SPECIAL_TOKENS

Grouping = Literal["language_repository", "repository", "file"]
Engine = Literal["auto", "reference", "fast"]
SMALLEST = 256 + len(SPECIAL_TOKENS)  # every byte and every special token has an id of its own


class TokenizerTraining(Settings):
    """A byte-level BPE of our own."""

    vocabulary: int = Field(default=64_000, ge=SMALLEST)  # paper, section 2: 64,000
    """Tokens in all, special ones and the 256 bytes included."""
    sample: Bytes = 2**30  # ours: the paper does not say; takes about 4 GB of memory and 7 CPU minutes (120 MB measured: 0.6 GB, 43 s)
    """How much text of the standard tier to learn from: whole files, chosen by the hash of their id."""


class TokenizerSettings(Settings):
    """Train a tokenizer or take one: give ``train`` or ``path``."""

    train: TokenizerTraining | None = None
    """How to train; the default where ``path`` is not given."""
    path: str | None = None
    """A ``tokenizer.json``, the folder or hub name of a Hugging Face tokenizer, or ``fixture:NAME``.
    Special tokens it lacks are added behind its vocabulary."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("path") is not None and given.get("train") is not None:
            raise ValueError("give train (to train a tokenizer) or path (to take one), not both; null clears the other")
        return given if given.get("path") is not None else {**given, "train": given.get("train") or {}}


class TierFormat(Settings):
    """How the files of a tier become training documents."""

    grouping: Grouping = "language_repository"  # paper, section 2.2 and table 3: language first, then repository
    """``language_repository``: the files of one language in one repository are a document; ``repository``: all files of
    a repository, whatever their language; ``file``: each file by itself."""
    repository_metadata: float = Field(default=0.5, ge=0, le=1)  # StarCoder2 (arXiv 2402.19173), section 5.1; the paper does not say
    """Probability that a document names its repository and the paths of its files."""


class TokenizeSettings(Settings):
    """Tiers of files into indexed datasets."""

    format: TierFormat = TierFormat()
    """The format of every tier that ``tiers`` does not name."""
    tiers: dict[str, TierFormat] = {"synthetic": TierFormat(grouping="file", repository_metadata=0)}  # noqa: RUF012 - settings are frozen
    """Tiers with a format of their own. Synthetic files belong to no repository (ours)."""
    document: Bytes = Field(default=64 * 2**20, ge=1)  # ours: about 20M tokens, bounds the memory a document takes and keeps far from the format's 2**31
    """A group with more text than this is cut, between two files, into several documents."""
    shard: Bytes = Field(default=512 * 2**20, ge=1)  # ours: the paper's 500B tokens make about 2,000 shards; a killed run loses one at most
    """A shard is closed with the document that brings its .bin to this size."""
    workers: Annotated[int | None, RUNTIME] = Field(default=None, ge=1)
    """Processes that encode; the default is one for each CPU this process may use. Changes nothing in the result."""
    engine: Annotated[Engine, RUNTIME] = "auto"
    """What encodes: ``reference`` is Hugging Face tokenizers, ``fast`` the optional package fastokens, checked against the
    reference as it runs, ``auto`` the fast one where it is installed and agrees. Changes nothing in the result."""

    def of(self, tier: str) -> TierFormat:
        """The format of a tier."""
        return self.tiers.get(tier, self.format)
