"""Builds ``megatron_snow._csrc`` from csrc/; everything else about the package is in pyproject.toml.

``SNOW_SANITIZE=1`` builds it with the address and undefined-behaviour sanitizers (csrc/sanitize.sh runs the tests on that).
"""

import os
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-D_GLIBCXX_ASSERTIONS"]
sanitize = os.environ.get("SNOW_SANITIZE", "0") == "1"

ParallelCompile(default=min(4, len(os.sched_getaffinity(0)))).install()

setup(
    ext_modules=[
        Pybind11Extension(
            "megatron_snow._csrc",
            sorted(str(path) for path in Path("csrc").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("csrc").glob("*.hpp")),
            cxx_std=17,
            extra_compile_args=["-Wall", "-Wextra", *(["-O1", "-g", *SANITIZERS] if sanitize else ["-O3"])],
            extra_link_args=SANITIZERS if sanitize else [],
        )
    ]
)
