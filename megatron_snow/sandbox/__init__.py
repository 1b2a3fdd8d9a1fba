"""Untrusted programs run here, apart from everything: ``run``, ``run_many``, ``capabilities``."""

from megatron_snow.sandbox.run import Capabilities, Result, capabilities, run, run_many
from megatron_snow.sandbox.settings import SandboxSettings

__all__ = ["Capabilities", "Result", "SandboxSettings", "capabilities", "run", "run_many"]
