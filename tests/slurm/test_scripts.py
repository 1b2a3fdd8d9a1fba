"""What can be said of batch scripts and Dockerfile without a cluster or a daemon: shells parse them, and what they name is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("examples/**/*.sh"), *ROOT.glob("examples/**/*.sbatch"), *ROOT.glob("tests/**/*.sh"), *ROOT.glob("csrc/*.sh"), ROOT / ".ci/run"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_is_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    found = subprocess.run(["shellcheck", "--external-sources", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*/submit.sh")), ids=lambda path: path.parent.name)
def test_an_examples_script_names_its_own_recipe(script: Path) -> None:
    named = re.findall(r"examples/\S+\.(?:yaml|sh)", script.read_text())
    assert all((ROOT / name).is_file() for name in named)
    if script.parent.name != "slurm":
        assert f"examples/{script.parent.name}/recipe.yaml" in named


def test_the_dockerfile_pins_what_it_installs_and_copies_what_is_there() -> None:
    """No daemon is at hand to build it; this is what its text shows."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {instruction for instruction, _ in lines} <= {"FROM", "ENV", "ARG", "RUN", "COPY", "WORKDIR", "CMD"}
    assert lines[0][0] == "FROM" and re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-devel-ubuntu24\.04", lines[0][1])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for instruction, rest in lines:
        if instruction == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and f"!{source}" in ignored
        if instruction == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)
            for install in re.findall(r"pip install ([^&]*)", rest):
                assert "--constraint constraints.txt" in install


def test_shared_options_reach_the_container(tmp_path: Path) -> None:
    """The words that common.sh puts before a command and into srun's options, for each kind of image."""
    show = 'SLURM_JOB_ID=1; . examples/slurm/common.sh; printf "%s\\n" "${step_options[@]}" -- "${inside[@]}"'

    def words(**environment: str) -> list[str]:
        shell = ["bash", "-euc", show]
        return subprocess.run(shell, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=True).stdout.split()

    assert words() == ["--"]
    assert words(CONTAINER="a.sif", MOUNTS="/data:/data") == ["--", "apptainer", "exec", "--nv", "--bind", f"{ROOT},/data:/data", "--pwd", str(ROOT), "a.sif"]
    assert words(CONTAINER="a.sqsh") == ["--container-image=a.sqsh", f"--container-mounts={ROOT}:{ROOT}", f"--container-workdir={ROOT}", "--"]
