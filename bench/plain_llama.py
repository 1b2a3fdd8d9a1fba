"""What we compare with: the plain loop a good PyTorch user writes for the same Llama shape.

``torch.compile`` a layer and the loss head, ``scaled_dot_product_attention`` (flash), bf16 autocast over fp32 weights, fused AdamW,
full logits in one cross entropy. No megatron, no Transformer Engine.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from megatron_snow.model.settings import ModelSettings


class Layer(nn.Module):
    """RMSNorm, rotary attention, RMSNorm, SwiGLU."""

    def __init__(self, model: ModelSettings) -> None:
        super().__init__()
        self.heads, self.size = model.heads, model.head_size
        self.norm1, self.norm2 = nn.RMSNorm(model.hidden, eps=model.norm_epsilon), nn.RMSNorm(model.hidden, eps=model.norm_epsilon)
        self.qkv = nn.Linear(model.hidden, 3 * model.hidden, bias=False)
        self.proj = nn.Linear(model.hidden, model.hidden, bias=False)
        self.gate_up = nn.Linear(model.hidden, 2 * model.ffn, bias=False)
        self.down = nn.Linear(model.ffn, model.hidden, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, sequence, hidden = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, sequence, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, sequence, hidden))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding over halves."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)


class PlainLlama(nn.Module):
    """Tied embeddings; returns the mean loss."""

    def __init__(self, model: ModelSettings, vocabulary: int, sequence: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, model.hidden)
        self.layers = nn.ModuleList(Layer(model) for _ in range(model.layers))
        self.norm = nn.RMSNorm(model.hidden, eps=model.norm_epsilon)
        frequency = model.rope_theta ** (-torch.arange(0, model.head_size, 2).float() / model.head_size)
        angle = torch.outer(torch.arange(sequence).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def head(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Full logits and their cross entropy."""
        return F.cross_entropy(F.linear(self.norm(x), self.embedding.weight).float().flatten(0, 1), labels.flatten())

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.head(x, labels)


class PlainTraining:
    """Model, optimizer and step."""

    def __init__(self, vocabulary: int, sequence: int) -> None:
        torch.manual_seed(1)
        torch.set_float32_matmul_precision("high")
        with torch.device("cuda"):
            self.model = PlainLlama(ModelSettings(), vocabulary, sequence)
            for parameter in self.model.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)
        for layer in self.model.layers:
            layer.compile()
        self.model.head = torch.compile(self.model.head)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(self, chunks: list[list[Any]], rate: float) -> float:
        """One optimizer step over the micro-batches (lists of int64 [sequence + 1]); the mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device="cuda")
        for rows in chunks:
            tokens = torch.stack([torch.from_numpy(row) for row in rows]).cuda()
            with torch.autocast("cuda", torch.bfloat16):
                loss = self.model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()) / len(chunks)
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return float(total)
