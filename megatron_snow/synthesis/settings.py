"""Settings of the synthesize arrow. The paper names the teacher, the seeds' tier and the size; what it leaves open is ours and says so."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Tokens
from megatron_snow.synthesis.prompt import load_prompt


class LocalServerSettings(Settings):
    """A server of our own on a loopback port, for trying the road: llama.cpp in a process that ends with ours."""

    model: str
    """``fixture:SmolLM2-135M-Instruct``, a GGUF file, or a folder with one."""
    threads: Annotated[int | None, RUNTIME] = Field(default=None, ge=1)
    """None: one a core, four at most (ours: a small model gains nothing from more)."""
    slots: Annotated[int, RUNTIME] = Field(default=4, ge=1, le=256)  # ours: on a CPU a batch is hardly faster, and each slot reads the prompt once
    """Requests answered at one time."""
    context: int = Field(default=2048, ge=256)  # ours: examples, seed and answer of the small prompt fit twice
    """Tokens of prompt and answer together."""
    start_timeout: Annotated[float, RUNTIME] = Field(default=120, gt=0)  # ours: a gigabyte from a slow disk
    """Seconds until it must be ready."""


class SynthesizeSettings(Settings):
    """Seeds in, documents out."""

    endpoints: Annotated[tuple[str, ...], RUNTIME] = ("http://127.0.0.1:8000/v1",)  # where vLLM and SGLang listen by default
    """Base URLs of OpenAI-compatible servers, all with the same model. Not used where ``local`` is set."""
    local: LocalServerSettings | None = None
    """Start a server on this machine and stop it afterwards; ``local: NAME`` is short for its ``model``."""
    model: str = "meta-llama/Llama-3.1-70B-Instruct"  # paper, section 3.3
    """The model's name at the endpoints."""
    api_key_env: Annotated[str | None, RUNTIME] = None
    """Name of the environment variable that holds the key, where the servers want one. A key is never written anywhere."""

    prompt: str = "file"  # ours: the paper does not print its prompt
    """A prompt of the package (``file``, ``file_small``) or a path; see ``synthesis.prompt``."""
    temperature: float = Field(default=0.8, ge=0, le=2)  # ours, the paper does not say: seeds differ, so moderate sampling is diverse enough
    top_p: float = Field(default=0.95, gt=0, le=1)  # ours: the usual partner of that temperature in code sampling
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)  # ours: a large teacher needs none; a very small one falls into loops
    max_tokens: int = Field(default=3072, ge=16)  # ours: a file of 300 lines and its problem
    """Longest answer; a longer one is not finished and dropped."""
    stop: tuple[str, ...] = Field(default=(), max_length=4)  # four: the API's own limit
    """Texts at which an answer ends."""

    seed_lines: int = Field(default=15, ge=1)  # Magicoder (arXiv 2312.02120), section 2.1: 1-15 consecutive lines
    """Most lines of a seed."""
    seed_characters: int = Field(default=2000, ge=40)  # ours: 15 long lines; keeps a minified line out of the prompt
    """Most characters of a seed."""
    python_share: float = Field(default=0.5, ge=0, le=1)  # paper, section 3.3: Python about 50 %, the others keep their proportions
    """Share of requests seeded by Python."""

    tokens: Tokens | None = 2_000_000_000  # paper, table 1: about 2B unique synthetic tokens
    """Stop when accepted documents have this many tokens, as the recipe's tokenizer counts them. None: no such limit."""
    requests: int | None = Field(default=None, ge=1)
    """Stop after this many requests. None: no such limit. Where the seeds end first (one a document), generation ends too and says so."""

    concurrency: Annotated[int, RUNTIME] = Field(default=64, ge=1)  # ours: fills one vLLM server of a 70B model
    """Requests in flight at each endpoint."""
    timeout: Annotated[float, RUNTIME] = Field(default=600, gt=0)  # ours: 3072 tokens at a busy server's 10 a second, twice
    """Seconds until a request counts as lost."""
    attempts: Annotated[int, RUNTIME] = Field(default=8, ge=1)  # ours: with doubling waits this rides out two minutes, a server's restart
    """Tries of one request."""
    first_wait: Annotated[float, RUNTIME] = Field(default=1.0, gt=0)  # ours
    """Seconds before the second try; doubled for each further one up to a minute, with jitter."""

    min_characters: int = Field(default=100, ge=0)  # ours: shorter files hold no problem and its solution
    """Shortest code, white space not counted."""

    @field_validator("local", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("endpoints")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an endpoint; write it like http://127.0.0.1:8000/v1")
        if not value:
            raise ValueError("no endpoint; name one like http://127.0.0.1:8000/v1")
        return value

    def identity(self) -> dict[str, Any]:
        """With the prompt's contents, which the settings only name. Raises SnowError where there is no such prompt."""
        return super().identity() | {"prompt_sha256": load_prompt(self.prompt).sha256}

    @model_validator(mode="after")
    def _bounded(self) -> SynthesizeSettings:
        if self.tokens is None and self.requests is None:
            raise ValueError("neither tokens nor requests is set, so there would be no end; set one")
        return self
