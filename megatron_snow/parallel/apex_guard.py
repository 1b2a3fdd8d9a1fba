"""Tell NVIDIA's apex from what else is called ``apex``.

megatron-core decides which norms to use by a bare ``import apex``. PyPI's package of that name is unrelated, and an
empty folder called apex imports too; both would break model construction. Call ``guard_apex`` before the first
megatron import: an apex that is not NVIDIA's is made unimportable in this process, with a warning.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import warnings
from pathlib import Path


def is_nvidia_apex(spec: importlib.machinery.ModuleSpec) -> bool:
    """Whether the package is NVIDIA's with its CUDA extensions, judged by its files: importing a stranger would run it."""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    has_optimizers = spec.origin is not None and any((folder / "optimizers" / "fused_adam.py").is_file() for folder in folders)
    has_extensions = all(importlib.util.find_spec(name) is not None for name in ("amp_C", "fused_layer_norm_cuda"))
    return has_optimizers and has_extensions


def guard_apex() -> bool:
    """Hide a false apex from this process; returns whether NVIDIA's is there."""
    if "apex" in sys.modules:
        return sys.modules["apex"] is not None
    spec = importlib.util.find_spec("apex")
    if spec is None:
        return False
    if is_nvidia_apex(spec):
        return True
    sys.modules["apex"] = None  # type: ignore[assignment]  # `import apex` now raises ModuleNotFoundError
    where = spec.origin or ", ".join(spec.submodule_search_locations or ())
    warnings.warn(f"ignoring the package 'apex' at {where}: it is not NVIDIA's apex with CUDA extensions", stacklevel=2)
    return False
