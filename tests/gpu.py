"""Marks of tests that need a CUDA device: ``make gpu`` runs them; elsewhere they say why they do not."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch


def needs_gpu(test: Any) -> Any:
    """Mark a test ``gpu`` and skip it where there is no CUDA device."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: make gpu")(test))


def needs_transformer_engine(test: Any) -> Any:
    """``needs_gpu``, and Transformer Engine installed."""
    missing = importlib.util.find_spec("transformer_engine") is None
    return needs_gpu(pytest.mark.skipif(missing, reason="needs Transformer Engine beside the GPU")(test))
