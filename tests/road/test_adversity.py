"""What the world does to a road: full disks, read-only folders, lost permissions, clocks that are set back, two runs in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.artifacts.publish import Building
from tests.road.conftest import FOLDERS, RECIPE
from tests.road.kills import content
from tests.synthesis.conftest import MODEL, Endpoint, completion


def command(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-m", "megatron_snow", *map(str, arguments)], capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )  # fmt: skip


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2 and "Traceback" not in result.stderr, (result.returncode, result.stderr[-4000:])
    return result.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory; ``mount -o remount,size=...`` makes it larger or smaller."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


# Stage -> the folders it stands on, and the shares of its artefact's size that are left on the disk.
FULL = {
    "corpus": 0, "tokenizer": 1, "annotate": 2, "tokenize": 4, "train --phase general": 5, "convert --phase general": 6, "evaluate --phase general": 7,
    "report": 8,
}  # fmt: skip
LONG = ("annotate", "evaluate --phase general", "report")  # minutes on a busy machine


# Arrow -> how many folders it stands on, and one of them that it reads.
READ = {"tokenizer": (1, "1-corpus/standard"), "synthesize": (3, "3-annotate/high_quality"), "evaluate --phase general": (7, "7-convert/general")}


@pytest.mark.parametrize("arrow", [pytest.param(arrow, marks=[pytest.mark.soak] if arrow in LONG else []) for arrow in FULL])
def test_a_full_disk_is_said_and_costs_nothing(road, small_disk, arrow):
    """Room for a part of what the arrow writes: exit code 2 and which file; with more room the same command goes on to the same artefact."""
    out, stage = small_disk / "out", arrow.replace("--phase ", "")
    folder = FOLDERS[FULL[arrow]] + ("/general" if "--phase" in arrow else "")
    for name in FOLDERS[: FULL[arrow]]:
        shutil.copytree(road[0] / name, out / name)
    resize(small_disk, used(small_disk) + max(sum(entry.bytes for entry in read_manifest(road[0] / folder).files.values()) // 3, 4096))
    said = refused(command(*arrow.split(), RECIPE, "--out", out))
    assert f"[{stage}] the disk is full at" in said and "run again: it goes on from here" in said
    assert not (out / folder).exists()
    for name in FOLDERS[: FULL[arrow]]:
        for made in (road[0] / name).rglob("manifest.json"):
            assert (out / made.relative_to(road[0])).read_bytes() == made.read_bytes()
    resize(small_disk, 200 * 2**20)
    assert command(*arrow.split(), RECIPE, "--out", out).returncode == 0
    assert content(out / folder) == content(road[0] / folder)


@pytest.fixture
def verbose() -> Iterator[Endpoint]:
    """A server whose answers are 45 kB of Python, another one for each question."""

    def behave(handler, body, turn):
        name = "area_" + hashlib.sha256(body["messages"][-1]["content"].encode()).hexdigest()[:12]
        code = f"def {name}(width, height):\n    return width * height\n\n\nNOTE_{name} = '{name * 2600}'\n"
        handler.reply(200, completion(f"Problem: compute the area of a rectangle, {name}.\n\n```python\n{code}```\n"))

    endpoint = Endpoint(behave)
    yield endpoint
    endpoint.close()


def test_a_disk_that_fills_while_answers_come(road, small_disk, tmp_path, verbose):
    """Synthesize stops with the journal's whole lines; with more room only what they lack is asked, and the artefact is the undisturbed one."""
    changes = {"local": "null", "endpoints": f"[{verbose.url}]", "model": MODEL, "python_share": 1, "concurrency": 2, "diversity": "null"}
    options = [word for name, value in changes.items() for word in ("--set", f"synthesize.{name}={value}")]
    for out in (small_disk / "out", tmp_path / "undisturbed"):
        for name in FOLDERS[:3]:
            shutil.copytree(road[0] / name, out / name)
    assert command("synthesize", RECIPE, "--out", tmp_path / "undisturbed", *options).returncode == 0
    every = {json.dumps(body) for body in verbose.asked}
    verbose.asked.clear()
    out = small_disk / "out"
    resize(small_disk, used(small_disk) + 250_000)
    said = refused(command("synthesize", RECIPE, "--out", out, *options))
    assert "journal.jsonl: " in said and "make room on the disk and run again: the answers before are kept" in said
    assert not (out / FOLDERS[3]).exists()
    kept = [json.loads(line) for line in (out / f"{FOLDERS[3]}.building" / "journal.jsonl").read_bytes().splitlines(keepends=True)]
    assert 1 < len(kept) < len(every)
    resize(small_disk, 200 * 2**20)
    verbose.asked.clear()
    assert command("synthesize", RECIPE, "--out", out, *options).returncode == 0
    assert len(verbose.asked) == len(every) - len(kept) and {json.dumps(body) for body in verbose.asked} <= every
    ours, undisturbed = content(out / FOLDERS[3]), content(tmp_path / "undisturbed" / FOLDERS[3])
    assert {name for name in undisturbed if ours[name] != undisturbed[name]} <= {"journal.jsonl"}  # answers in the order in which they came


@pytest.mark.parametrize("arrow", READ)
def test_a_read_only_file_system(road, small_disk, arrow):
    out = small_disk / "out"
    for name in FOLDERS[: READ[arrow][0]]:
        shutil.copytree(road[0] / name, out / name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = refused(command(*arrow.split(), RECIPE, "--out", out))
    assert "Read-only file system" in said and "--out" in said
    assert command("plan", RECIPE, "--out", out).returncode == 0  # looking needs no writing


def test_permissions_lost_on_the_way(road, tmp_path):
    """An account that may look at the folder and not write into it; root's own power over permissions is put away."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not installed")
    weak = (setpriv, "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    out = tmp_path / "out"
    for name in FOLDERS[:2]:
        shutil.copytree(road[0] / name, out / name)
    (out / ".lock").touch()
    shutil.rmtree(out / FOLDERS[1])
    out.chmod(0o555)
    said = refused(command("tokenizer", RECIPE, "--out", out, prefix=weak))
    assert "[tokenizer] permission denied at" in said and "2-tokenizer.building" in said
    out.chmod(0o755)
    (out / FOLDERS[0] / "standard").chmod(0)
    assert "permission denied at" in refused(command("tokenizer", RECIPE, "--out", out, prefix=weak))
    (out / FOLDERS[0] / "standard").chmod(0o755)
    assert command("tokenizer", RECIPE, "--out", out).returncode == 0
    assert content(out / FOLDERS[1]) == content(road[0] / FOLDERS[1])


@pytest.mark.parametrize("arrow", [arrow for arrow in READ if arrow != "tokenizer"])
def test_what_may_not_be_written_or_read(road, tmp_path, arrow):
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not installed")
    weak = (setpriv, "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    out, (before, source) = tmp_path / "out", READ[arrow]
    for name in FOLDERS[:before]:
        shutil.copytree(road[0] / name, out / name)
    (out / ".lock").touch()
    (out / FOLDERS[before]).mkdir()  # evaluate's artefacts lie one deeper: that folder is there already, and closed
    for folder in (out / FOLDERS[before], out):
        folder.chmod(0o555)
    stage = arrow.replace("--phase ", "")
    assert f"[{stage}] permission denied at" in refused(command(*arrow.split(), RECIPE, "--out", out, prefix=weak))
    for folder in (out, out / FOLDERS[before]):
        folder.chmod(0o755)
    (out / FOLDERS[before]).rmdir()
    (out / source).chmod(0)
    said = refused(command(*arrow.split(), RECIPE, "--out", out, prefix=weak))
    (out / source).chmod(0o755)
    assert "ermission denied" in said and source in said


def test_a_clock_set_back_meanwhile(tmp_path, monkeypatch):
    building = Building(tmp_path / "a", "corpus", 1, {}, 7, {}).open()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    assert 0 <= building.publish().seconds < 60


def test_a_second_run_in_the_folder_is_refused_with_the_owner_named(road, own_road, tmp_path):
    """The first waits in the middle of its work (its sources are a pipe nobody writes to); the second says who it is; the first's end frees the folder."""
    out = tmp_path / "out"
    (tmp_path / "rows").mkdir()
    os.mkfifo(tmp_path / "list.txt")
    tree = yaml.safe_load(RECIPE.read_text())
    tree["corpus"]["take_down"] = str(tmp_path / "list.txt")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    arguments = [sys.executable, "-m", "megatron_snow", "corpus", str(tmp_path / "recipe.yaml"), "--out", str(out)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as first:
        until = time.monotonic() + 60
        while not (out / ".lock").exists() or not (out / ".lock").read_text():
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        said = refused(command("tokenizer", RECIPE, "--out", out))
        assert f"another run is at work in {out} (process {first.pid} on {os.uname().nodename})" in said
        first.kill()
    assert "run `snow corpus` first" in refused(command("tokenizer", RECIPE, "--out", out))
