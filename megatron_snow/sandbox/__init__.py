"""Untrusted programs run here, apart from everything: ``run``, ``run_many``, ``check_isolation``, ``capabilities``."""

from megatron_snow.sandbox.runner import Capabilities, Result, capabilities, check_isolation, run, run_many
from megatron_snow.sandbox.settings import SandboxSettings

__all__ = ["Capabilities", "Result", "SandboxSettings", "capabilities", "check_isolation", "run", "run_many"]
