"""The extension is built, or the error says how."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from megatron_snow import _csrc


def test_missing_extension_says_how_to_build_it() -> None:
    program = "import sys; sys.modules['megatron_snow._csrc'] = None; import megatron_snow.blend.native"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "SnowError: the C++ extension megatron_snow._csrc cannot be loaded" in last and "pip install --no-build-isolation -e ." in last


@pytest.mark.skipif("SNOW_SANITIZED_LIB" not in os.environ, reason="only where csrc/sanitize.sh runs the tests")
def test_the_sanitized_build_is_the_one_under_test() -> None:
    assert _csrc.__file__.startswith(os.environ["SNOW_SANITIZED_LIB"])
