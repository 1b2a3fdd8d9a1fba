"""Which Python a program runs on: this one's installation alone, or a virtual environment's with its packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError

_ASK = "import json, sys, sysconfig; print(json.dumps([sys._base_executable, sys.base_prefix, sysconfig.get_path('purelib')]))"


@dataclass(frozen=True)
class Python:
    """An installation."""

    executable: str
    """The installation's own, not a virtual environment's link to it."""
    prefix: str
    """What must be readable for it to start."""
    packages: str = ""
    """Folder of installed packages that programs may import; empty: the standard library alone."""


def python(environment: Path | None = None) -> Python:
    """This interpreter's installation, or that behind the virtual environment ``environment`` with its packages.

    Raises SnowError where the folder is no virtual environment, or its Python does not start.
    """
    if environment is None:
        return Python(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable), os.path.realpath(sys.base_prefix))
    own = environment.absolute() / "bin" / "python"
    try:
        said = subprocess.run([own, "-I", "-c", _ASK], check=True, capture_output=True, stdin=subprocess.DEVNULL, env={}, timeout=60)
        executable, prefix, packages = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SnowError(
            f"{environment} is no virtual environment with a working Python ({error}); make one with tools/bigcodebench.sh, or leave the setting out"
        ) from error
    return Python(os.path.realpath(executable), os.path.realpath(prefix), packages)
