"""The standard library and the distributions beside the project."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.installed import (
    distribution_files,
    distributions_fingerprint,
    installed_distributions,
    stdlib_files,
    stdlib_fingerprint,
    stdlib_module,
)
from megatron_snow.corpus.settings import DistributionsSource, StdlibSource


def test_a_module_is_a_repository_and_its_tests_go_with_it() -> None:
    modules = {"json", "argparse", "test"}
    assert stdlib_module("json/decoder.py", modules) == "json"
    assert stdlib_module("argparse.py", modules) == "argparse"
    assert stdlib_module("test/test_json/test_decode.py", modules) == "json"
    assert stdlib_module("test/test_argparse.py", modules) == "argparse"
    assert stdlib_module("test/test_grammar.py", modules) == "test_grammar"
    assert stdlib_module("test/support/os_helper.py", modules) == "test_support"
    assert stdlib_module("test/__init__.py", modules) == "test"


def test_stdlib_files_are_the_librarys_own() -> None:
    files = list(stdlib_files(StdlibSource(only=("json", "argparse"))))
    assert {file.repository for file in files} == {"python/cpython/json", "python/cpython/argparse"}
    decoder = next(file for file in files if file.path == "json/decoder.py")
    assert decoder.location == str(Path(sysconfig.get_path("stdlib")) / "json/decoder.py")
    assert decoder.size == Path(json.decoder.__file__).stat().st_size and decoder.license == "PSF-2.0"
    assert not any("site-packages" in file.path or "__pycache__" in file.path for file in files)


def test_unknown_module_and_distribution_are_named() -> None:
    with pytest.raises(SnowError, match="no top-level module 'nosuchmodule'"):
        list(stdlib_files(StdlibSource(only=("nosuchmodule",))))
    with pytest.raises(SnowError, match="'no-such-distribution' is not installed"):
        list(distribution_files(DistributionsSource(only=("no_such.distribution",))))


def test_distributions_are_repositories_without_metadata_scripts_and_the_project() -> None:
    assert "megatron-snow" not in [d.metadata["Name"] for d in installed_distributions(DistributionsSource())]
    files = list(distribution_files(DistributionsSource(only=("PyYAML", "orjson"))))
    assert {file.repository for file in files} == {"pyyaml", "orjson"}
    assert {file.license for file in files if file.repository == "pyyaml"} == {"MIT"}
    assert not any(".dist-info/" in file.path or "__pycache__" in file.path or file.path.startswith("..") for file in files)
    loader = next(file for file in files if file.path == "yaml/loader.py")
    assert Path(loader.location).stat().st_size == loader.size


def test_fingerprints_are_stable_and_tell_sources_apart() -> None:
    one = DistributionsSource(only=("PyYAML",))
    assert distributions_fingerprint(one) == distributions_fingerprint(one) != distributions_fingerprint(DistributionsSource(only=("orjson",)))
    json_only = StdlibSource(only=("json",))
    assert stdlib_fingerprint(json_only) == stdlib_fingerprint(json_only) != stdlib_fingerprint(StdlibSource(only=("csv",)))
