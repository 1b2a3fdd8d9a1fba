"""A Hugging Face causal model with its tokenizer, as evaluation uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.special import END_OF_TEXT, FILE_SEPARATOR


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to run."""

    model: Any
    """``transformers`` causal model in evaluation mode."""
    tokenizer: Any
    positions: int
    """Longest input in tokens."""
    prefix: tuple[int, ...]
    """Ids before every text, as before a training document: end of text and file separator where the tokenizer has
    StarCoder2's special tokens, as ours do; else begin of text."""
    ends: frozenset[int]
    """Ids that end a text."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, ``prefix`` not included; a special token's name inside a text is text."""
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if texts else []

    def prompts(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts to go on from: ``prefix`` and the text's."""
        return [[*self.prefix, *ids] for ids in self.encode(texts)]

    def questions(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts to answer, each the user's turn in the tokenizer's chat template. Raises SnowError where it has none."""
        if not self.tokenizer.chat_template:
            raise SnowError("evaluate.chat asks a model that follows instructions, and this one's tokenizer has no chat template; set evaluate.chat: false")
        turns = [[{"role": "user", "content": text}] for text in texts]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False) if texts else []

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load(folder: Path, dtype: Literal["bf16", "fp32"]) -> LanguageModel:
    """Load a model folder onto the GPU where there is one, else the CPU. No code of the folder is run, nothing fetched.

    Raises SnowError where the folder is missing or is not a Hugging Face causal model with a tokenizer.
    """
    if not (folder / "config.json").is_file():
        raise SnowError(f"no model in {folder} (it holds no config.json); name a Hugging Face model folder, or run `snow convert` first")
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        numbers = torch.bfloat16 if dtype == "bf16" else torch.float32
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=numbers, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise SnowError(f"cannot load the model in {folder} ({str(error).splitlines()[0]}); convert it again, or name another folder") from error
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):  # transformers would go on with random numbers in their place
        raise SnowError(f"the model in {folder} lacks {len(missing)} of its tensors ({missing[0]} among them); convert it again, or name another folder")
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    ends += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    prefix = _prefix(tokenizer)
    if not prefix:
        raise SnowError(
            f"the tokenizer in {folder} has neither bos_token nor eos_token; a text needs one of them before its first token: set it in tokenizer_config.json"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    model.eval()
    return LanguageModel(model, tokenizer, model.config.max_position_embeddings, prefix, frozenset(ends))


def _prefix(tokenizer: Any) -> tuple[int, ...]:
    known = tokenizer.get_vocab()
    if END_OF_TEXT in known and FILE_SEPARATOR in known:
        return (known[END_OF_TEXT], known[FILE_SEPARATOR])
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return () if start is None else (start,)
