"""What is measured on how much, and with what generation rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from megatron_snow.artifacts.settings import RUNTIME, Settings
from megatron_snow.artifacts.units import Bytes, Tokens
from megatron_snow.benchmarks.settings import BenchmarkSettings
from megatron_snow.sandbox import SandboxSettings
from megatron_snow.synthesis.settings import EndpointSettings


class ServedSettings(Settings):
    """OpenAI-compatible servers of the model that is evaluated. Needed of them: ``prompt`` as token ids where ``chat`` is off (vLLM, SGLang, llama.cpp)."""

    endpoints: Annotated[tuple[EndpointSettings, ...], RUNTIME] = Field(min_length=1)
    """URLs, or with limits ``{url: ..., concurrency: ...}``; all with the same model."""
    model: str
    """Its name there; ``{phase}`` in it is the phase that is evaluated (``vllm serve out/7-convert/general --served-model-name snow-general``)."""
    stop_limit: int | None = Field(default=None, ge=1)
    """Stop strings a server takes, at most: 4 for OpenAI's own. Answers are cut at all of them here; left out: any number (vLLM, SGLang, llama.cpp)."""
    api_key_env: Annotated[str | None, RUNTIME] = None
    """Name of the environment variable that holds the key, where the servers want one."""
    concurrency: Annotated[int, RUNTIME] = Field(default=64, ge=1)  # ours: as synthesis, fills one vLLM server
    """Requests in flight at each endpoint."""
    timeout: Annotated[float, RUNTIME] = Field(default=600, gt=0)  # ours: as synthesis
    """Seconds until a request counts as lost."""
    attempts: Annotated[int, RUNTIME] = Field(default=8, ge=1)  # ours: as synthesis, rides out a server's restart
    """Tries of one request."""
    first_wait: Annotated[float, RUNTIME] = Field(default=1.0, gt=0)  # ours: as synthesis
    """Seconds before the second try; doubled for each further one up to a minute, with jitter."""

    @field_validator("endpoints", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        return tuple({"url": one} if isinstance(one, str) else one for one in value) if isinstance(value, list | tuple) else value


class EvaluateSettings(Settings):
    """Settings of the evaluate arrow."""

    dtype: Literal["bf16", "fp32"] = "bf16"  # ours: what models of this size are served in
    """Arithmetic of the model; losses are summed in float64 either way."""
    heldout_bytes: Bytes = Field(default=4 * 2**20, ge=1)  # ours: several hundred files of a language; 25M tokens in the paper's 18, minutes on a GPU
    """Held-out text per language, at most: whole files in an order drawn from the seed."""
    tier_bytes: Bytes = Field(default=2**20, ge=0)  # ours: some hundred files of a language, a quarter of the held-out text's cost a tier
    """Text per language of each tier that is trained on, at most, drawn likewise: what a phase costs where it does not aim. 0: none."""
    document_bytes: Bytes = Field(default=64 * 2**10, ge=1)  # ours: nine in ten files of the standard library are shorter (median 6.5 kB)
    """Bytes of one file, at most: its beginning."""
    overlap: float = Field(default=0.5, ge=0, lt=1)  # ours: every token but a file's first ones sees at least half a context
    """Share of a window repeated as context for the next, in texts longer than the model's positions; 0 is fastest."""
    batch_tokens: Tokens = Field(default=8192, ge=1)  # ours: one paper-length sequence; logits at vocabulary 64,000 take 1 GiB in bf16
    """Tokens of one forward pass over held-out text, padding included."""
    benchmarks: tuple[BenchmarkSettings, ...] = (BenchmarkSettings(name="humaneval"),)
    """What is solved: names, or ``{name: humaneval+, source: FILE, FOLDER or hub name}`` (``benchmarks.settings``). Table 2 of the paper:
    ``[humaneval+, mbpp+, evoeval, bigcodebench/complete]``."""
    problem_limit: int | None = Field(default=None, ge=1)
    """Only the first so many problems of each benchmark (for trying things out); left out: all."""
    samples: int = Field(default=1, ge=0)
    """Completions of a problem: 1 for greedy pass@1; 10 and more for pass@10 with a temperature; 0: nothing is completed or run, and benchmarks are
    measured by the bits per byte of their solutions alone (models too small to solve anything)."""
    temperature: float = Field(default=0.0, ge=0, le=2)  # the paper's table 2 is greedy
    """0: the likeliest token; else tokens are drawn (0.2 for pass@1, 0.8 for pass@100 in arXiv 2107.03374)."""
    top_p: float = Field(default=0.95, gt=0, le=1)  # arXiv 2107.03374, section 2.3
    """Tokens are drawn from the likeliest that hold this share of the probability."""
    call_seconds: float = Field(default=4.0, gt=0)  # evalplus 0.3.1, DEFAULT_MIN_TIME_LIMIT; of processor time here
    """Of one call of a HumanEval+, MBPP+ or EvoEval test, or four times the canonical solution's time where that is more."""
    max_new_tokens: Tokens = Field(default=512, ge=1)  # ours: about twice the longest canonical solution (265 of StarCoder2's tokens)
    """Length of a completion, at most."""
    stop: tuple[str, ...] | None = None
    """A completion ends before the first of these; left out: what the public harness of each benchmark uses (``evaluation.programs``)."""
    chat: bool = False
    """The model follows instructions: it is asked through its chat template (or the endpoint's), and the code block of its answer is what is run."""
    endpoint: ServedSettings | None = None
    """Servers that complete the benchmarks' prompts in this process's place, which still loads the model for bits per byte."""
    batch_size: int = Field(default=64, ge=1)  # ours, LOG.md 2026-11-26: 96 takes half the time of 32; keys and values of 64 x 1,000 tokens are 12 GB at 1.3B
    """Problems completed together."""
    sandbox: SandboxSettings = SandboxSettings(timeout=60, memory=4 * 2**30)  # evalplus 0.3.1: 60 s and 4 GiB a task
    """Limits of the programs that test completions."""
    prompts: tuple[str, ...] = (
        "def fibonacci(n):",
        "def read_lines(path):",
        "class Stack:\n    def __init__(self):",
    )  # ours: short, and everyone knows how they go on
    """Completed for the reader's eye."""
    prompt_tokens: Tokens = Field(default=64, ge=1)  # ours: a few lines
    """Length of those completions."""

    @field_validator("benchmarks")
    @classmethod
    def _once_each(cls, chosen: tuple[BenchmarkSettings, ...]) -> tuple[BenchmarkSettings, ...]:
        names = [name for one in chosen for name in one.benchmarks()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is named twice; name each benchmark once (evoeval stands for five)")
        return chosen

    @model_validator(mode="after")
    def _samples_differ(self) -> EvaluateSettings:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples: {self.samples} at temperature 0 are all the same; set temperature (0.2 to 0.8), or samples: 1")
        if self.samples == 0 and self.endpoint is not None:
            raise ValueError("endpoint completes the benchmarks' prompts, and samples: 0 asks for none; leave one of them out")
        return self
