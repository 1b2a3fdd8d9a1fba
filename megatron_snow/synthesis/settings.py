"""Settings of the synthesize arrow. The paper names the teacher, the seeds' tier and the size; what it leaves open is ours and says so."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Tokens
from megatron_snow.corpus.settings import NearDuplicateSettings
from megatron_snow.sandbox.settings import SandboxSettings
from megatron_snow.synthesis.prompt import load_prompt

JOURNAL = "journal.jsonl"
"""Every answer (``synthesis.journal``), in the arrow's work folder and then in its artefact."""


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


class EndpointSettings(Settings):
    """One OpenAI-compatible server. A recipe may write its URL alone."""

    url: str
    """Base URL; usually ends in /v1."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight there. None: ``synthesize.concurrency``."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """None: no such limit. A hosted server's own limit, so that it need not refuse."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Tokens of prompts and answers as the server counts them. None: no such limit."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is not an endpoint; write it like http://127.0.0.1:8000/v1")
        return value.rstrip("/")


class SpendSettings(Settings):
    """What a run may cost. Answers of earlier runs in the same journal count."""

    tokens: Tokens | None = None
    """Tokens of prompts and answers together, as the servers count them (those that do not count spend nothing). None: no such limit."""
    money: float | None = Field(default=None, gt=0)
    """In the currency of the prices. None: no such limit."""
    prompt_price: float = Field(default=0.0, ge=0)
    """Of a million prompt tokens."""
    completion_price: float = Field(default=0.0, ge=0)
    """Of a million tokens of answers."""

    @model_validator(mode="after")
    def _priced(self) -> SpendSettings:
        if self.money is not None and not (self.prompt_price or self.completion_price):
            raise ValueError("money is limited but tokens have no price; set prompt_price and completion_price (of a million tokens)")
        return self

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """In the currency of the prices."""
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6

    def reached(self, prompt_tokens: int, completion_tokens: int) -> bool:
        """Whether one of the limits is."""
        tokens = self.tokens is not None and prompt_tokens + completion_tokens >= self.tokens
        return tokens or (self.money is not None and self.cost(prompt_tokens, completion_tokens) >= self.money)


class DiversitySettings(Settings):
    """The comparison of the tier with its seeds' files and with the standard tier, and when it warns."""

    sample: int = Field(default=1000, ge=8)  # ours: shares to within 3 points; three sets of it take a CPU's encoder some minutes
    """Documents of each set at most."""
    embeddings: bool = True
    """With the annotator's encoder: nearest neighbours and topics."""
    most_self_overlap: float = Field(default=0.5, gt=0, le=1)  # ours, LOG.md 2026-11-26: 1,000 real files share a quarter, 100 of them 8 %
    """Mean share of a document's word 5-grams that another document has too, above which diversity is called low."""
    most_copied: float = Field(default=0.3, gt=0, le=1)  # ours: two thirds of the near-duplicate threshold would still be another text
    """Mean share of a document's word 5-grams that its seed's file has too, above which little is new."""
    most_divergence: float = Field(default=0.3, gt=0, le=1)  # ours: bits; what the 50 % Python of phase 3 does to the language mix is half of that
    """Jensen-Shannon divergence of imports or topics from the standard tier, beyond that of its own halves, above which the tier is called biased."""


class VerifySettings(Settings):
    """Python documents are run in the sandbox; those that assert something and pass are written apart, too (``verified/``)."""

    sandbox: SandboxSettings = SandboxSettings()
    required: bool = False  # ours: a file may need input, arguments or a library that the sandbox lacks, and still teach
    """Drop Python documents that do not run to their end."""
    workers: Annotated[int | None, RUNTIME] = Field(default=None, ge=1)
    """Programs at one time. None: one a core."""


class LintSettings(Settings):
    """Python documents are read by ruff, which must be installed."""

    select: tuple[str, ...] = Field(default=("F", "E7", "E9", "B", "PLE"), min_length=1)  # ours: mistakes (unused, undefined, shadowed), not layout
    """Its rules."""
    most_per_100_lines: float | None = Field(default=None, ge=0)
    """Findings in a hundred lines above which a document is dropped. None: counted only (SwallowCode, arXiv 2505.02881, drops by pylint's score)."""


class SynthesizeSettings(Settings):
    """Seeds in, documents out."""

    endpoints: Annotated[tuple[EndpointSettings, ...], RUNTIME] = (EndpointSettings(url="http://127.0.0.1:8000/v1"),)  # where vLLM and SGLang listen
    """OpenAI-compatible servers, all with the same model: URLs, or with limits ``{url: ..., concurrency: ...}``. Not used where ``local`` is set."""
    local: LocalServerSettings | None = None
    """Start a server on this machine and stop it afterwards; ``local: NAME`` is short for its ``model``."""
    model: str = "meta-llama/Llama-3.1-70B-Instruct"  # paper, section 2.4
    """The model's name at the endpoints."""
    api_key_env: Annotated[str | None, RUNTIME] = None
    """Name of the environment variable that holds the key, where the servers want one. A key is never written anywhere."""

    prompt: str | tuple[str, ...] = "file"  # ours: the paper does not print its prompt
    """A prompt of the package (``file``, ``library``, ``program``, ``algorithm``, ``file_small``) or a path; see ``synthesis.prompt``. Several: each seed
    is given to one of them, chosen by its hash."""
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
    python_share: float = Field(default=0.5, ge=0, le=1)  # paper, section 2.4: Python about 50 %, the others keep their proportions
    """Share of requests seeded by Python."""

    tokens: Tokens | None = 2_000_000_000  # paper, table 1: about 2B unique synthetic tokens
    """Stop when accepted documents have this many tokens, as the recipe's tokenizer counts them. None: no such limit."""
    requests: int | None = Field(default=None, ge=1)
    """Stop after this many requests. None: no such limit. Where the seeds end first (one a document), generation ends too and says so."""

    concurrency: Annotated[int, RUNTIME] = Field(default=64, ge=1)  # ours: fills one vLLM server of a 70B model
    """Requests in flight at each endpoint."""
    judges: Annotated[int | None, RUNTIME] = Field(default=None, ge=0)
    """Processes that judge answers beside the asking one; 0: judged in place. None: in place up to 128 in flight, else one a core but one, 16 at most."""
    timeout: Annotated[float, RUNTIME] = Field(default=600, gt=0)  # ours: 3072 tokens at a busy server's 10 a second, twice
    """Seconds until a request counts as lost."""
    attempts: Annotated[int, RUNTIME] = Field(default=8, ge=1)  # ours: with doubling waits this rides out two minutes, a server's restart
    """Tries of one request, and pauses in a row of an endpoint until it counts as down."""
    first_wait: Annotated[float, RUNTIME] = Field(default=1.0, gt=0)  # ours
    """Seconds before the second try; doubled for each further one up to a minute, with jitter."""
    max_failed: Annotated[float, RUNTIME] = Field(default=0.01, ge=0, le=1)  # ours: more is the server's fault, not the requests'
    """Largest share of the requests that may fail for good, counted and left out; with more the run ends with an error and keeps its answers."""
    retry_failed: Annotated[bool, RUNTIME] = True
    """Ask again, in a run that goes on, what failed for good in the one before. False: it stays left out."""
    spend: Annotated[SpendSettings, RUNTIME] = SpendSettings()
    """Limits on what the run may cost."""

    min_characters: int = Field(default=100, ge=0)  # ours: shorter files hold no problem and its solution
    """Shortest code, white space not counted."""
    diversity: DiversitySettings | None = DiversitySettings()
    """Measure how new and varied the tier is (``diversity.json``). None: don't."""
    verify: VerifySettings | None = None  # ours: running what a model wrote is for the recipe to ask for
    """Run Python documents. None: don't."""
    lint: LintSettings | None = None
    """Let a linter read Python documents. None: don't."""
    near_duplicates: NearDuplicateSettings | None = NearDuplicateSettings()  # ours: the corpus's own rule, for the same reason
    """Of documents that are nearly the same, the first stays; one that is nearly the file of a seed goes. None: only equal ones go."""

    @field_validator("local", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("prompt")
    @classmethod
    def _some(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value or (not isinstance(value, str) and len(set(value)) < len(value)):
            raise ValueError("name one prompt or several different ones, such as [file, library]")
        return value

    @field_validator("endpoints", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("no endpoint; name one like http://127.0.0.1:8000/v1")
            return tuple({"url": one} if isinstance(one, str) else one for one in value)
        return value

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts' names, however many."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt

    def identity(self) -> dict[str, Any]:
        """With the prompt's contents, which the settings only name. Raises SnowError where there is no such prompt."""
        return super().identity() | {"prompt_sha256": [load_prompt(name).sha256 for name in self.prompts]}

    @model_validator(mode="after")
    def _bounded(self) -> SynthesizeSettings:
        if self.tokens is None and self.requests is None:
            raise ValueError("neither tokens nor requests is set, so there would be no end; set one")
        return self
