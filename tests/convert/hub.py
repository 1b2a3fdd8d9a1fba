"""Small Hugging Face models of random weights, written as transformers writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 300
SEQUENCE = 32
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": SEQUENCE, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rope_theta": 50_000.0, "rms_norm_eps": 1e-4}),
    "llama, tied, wide heads": ("llama", {"tie_word_embeddings": True, "head_dim": 24, "num_key_value_heads": 4}),
    "qwen2": ("qwen2", {"rope_theta": 1_000_000.0}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
}


def make(folder: Path, case: str, dtype: torch.dtype = torch.float32, shard: str = "5GB", **changes: Any) -> Path:
    """The model called ``case`` in ``folder``: every weight random, norms and biases too."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kind, special = MODELS[case]
    fields = SHAPE | special | changes
    model: Any = LlamaForCausalLM(LlamaConfig(**fields)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**fields))
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            low, high = (0.5, 1.5) if weight.ndim == 1 else (-0.3, 0.3)
            weight.copy_(torch.empty(weight.shape).uniform_(low, high, generator=generator))
        for name, bias in model.named_parameters():
            if name.endswith(".bias"):
                bias.sub_(1.0)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def tokens(rows: int = 3) -> torch.Tensor:
    """Random ids, [rows, SEQUENCE]."""
    return torch.randint(0, VOCABULARY, (rows, SEQUENCE), generator=torch.Generator().manual_seed(9))


def logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """What transformers answers in fp32."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(input_ids=ids).logits


def tokenizer(folder: Path, size: int = VOCABULARY) -> Path:
    """A byte-level BPE with ``<s>``, ``</s>`` and no special token of ours, as a hub model brings it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([Path(os.__file__).read_text()], trainer)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return folder
