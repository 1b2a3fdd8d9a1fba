"""What is measured on how much, and with what generation rules."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Bytes, Tokens
from megatron_snow.benchmarks.humaneval import HUMANEVAL
from megatron_snow.sandbox import SandboxSettings


class EvaluateSettings(Settings):
    """Settings of the evaluate arrow."""

    dtype: Literal["bf16", "fp32"] = "bf16"  # ours: what models of this size are served in
    """Arithmetic of the model; losses are summed in float64 either way."""
    heldout_bytes: Bytes = Field(default=4 * 2**20, ge=1)  # ours: several hundred files of a language; 25M tokens in the paper's 18, minutes on a GPU
    """Held-out text per language, at most: whole files in an order drawn from the seed."""
    document_bytes: Bytes = Field(default=64 * 2**10, ge=1)  # ours: nine in ten files of the standard library are shorter (median 6.5 kB)
    """Bytes of one held-out file, at most: its beginning."""
    overlap: float = Field(default=0.5, ge=0, lt=1)  # ours: every token but a file's first ones sees at least half a context
    """Share of a window repeated as context for the next, in texts longer than the model's positions; 0 is fastest."""
    batch_tokens: Tokens = Field(default=8192, ge=1)  # ours: one paper-length sequence; logits at vocabulary 64,000 take 1 GiB in bf16
    """Tokens of one forward pass over held-out text, padding included."""
    problems: str = HUMANEVAL
    """HumanEval: ``fixture:HumanEval``, a .jsonl or .jsonl.gz file, or the folder of one."""
    problem_limit: int | None = Field(default=None, ge=1)
    """Only the first so many problems (for trying things out); left out: all."""
    max_new_tokens: Tokens = Field(default=512, ge=1)  # ours: about twice the longest canonical solution (265 of StarCoder2's tokens)
    """Length of a completion, at most."""
    stop: tuple[str, ...] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Codex paper (arXiv 2107.03374), section 2.1
    """A completion ends before the first of these: top-level code after the function asked for."""
    batch_size: int = Field(default=32, ge=1)  # ours: fills two CPU cores or a GPU with a 1.3B model, without much memory for keys and values
    """Problems completed together."""
    sandbox: SandboxSettings = SandboxSettings()
    """Limits of the programs that test completions."""
    prompts: tuple[str, ...] = (
        "def fibonacci(n):",
        "def read_lines(path):",
        "class Stack:\n    def __init__(self):",
    )  # ours: short, and everyone knows how they go on
    """Completed for the reader's eye."""
    prompt_tokens: Tokens = Field(default=64, ge=1)  # ours: a few lines
    """Length of those completions."""
