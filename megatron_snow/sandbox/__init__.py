"""Untrusted programs run here, apart from everything: ``run``, ``run_many`` (``Server``), ``check_isolation``, ``capabilities``."""

from megatron_snow.sandbox.runner import Capabilities, Result, capabilities, check_isolation, run
from megatron_snow.sandbox.server import Server, run_many
from megatron_snow.sandbox.settings import SandboxSettings

__all__ = ["Capabilities", "Result", "SandboxSettings", "Server", "capabilities", "check_isolation", "run", "run_many"]
