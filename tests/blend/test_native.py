"""The extension is built, or the error says how."""

from __future__ import annotations

import subprocess
import sys


def test_missing_extension_says_how_to_build_it() -> None:
    program = "import sys; sys.modules['megatron_snow._csrc'] = None; import megatron_snow.blend.native"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "SnowError: the C++ extension megatron_snow._csrc cannot be loaded" in last and "pip install --no-build-isolation -e ." in last
