import json
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import NAME, file_sha256, read_manifest
from megatron_snow.artifacts.publish import Building, exclusive, write_atomically


def _building(folder, **settings):
    return Building(folder, "corpus", 1, settings, 7, {"source": "abc"})


def test_published_artefact_is_whole(tmp_path):
    building = _building(tmp_path / "1-corpus", cap=5).open()
    (building.work / "deep").mkdir()
    (building.work / "deep" / "a.txt").write_text("hello")
    building.counts = {"kept": 3}
    manifest = building.publish()
    folder = tmp_path / "1-corpus"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1-corpus"]
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == ["deep/a.txt", NAME]
    assert manifest.files["deep/a.txt"].sha256 == file_sha256(folder / "deep" / "a.txt")
    assert (manifest.counts, manifest.settings, manifest.seed) == ({"kept": 3}, {"cap": 5}, 7)
    assert read_manifest(folder) == manifest


def test_hashing_a_large_artefact_shows_how_far_it_is(tmp_path, monkeypatch, capsys):
    from megatron_snow.artifacts import manifest

    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"x" * 1000)
    manifest.list_files(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(manifest, "_WORTH_A_BAR", 2000)
    assert manifest.list_files(tmp_path)["1"].sha256 == file_sha256(tmp_path / "1")
    assert f"hashing {tmp_path.name}: 3K/3K B, 100 %" in capsys.readouterr().err


def test_fingerprint_depends_on_content_only(tmp_path):
    prints = []
    for number, (cap, text) in enumerate([(1, "x"), (2, "x"), (2, "y")]):
        building = _building(tmp_path / str(number), cap=cap).open()
        (building.work / "f").write_text(text)
        prints.append(building.publish().fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_same_key_goes_on_and_another_starts_over(tmp_path):
    (_building(tmp_path / "a", cap=1).open().work / "part").write_text("kept")
    assert (_building(tmp_path / "a", cap=1).open().work / "part").read_text() == "kept"
    assert not (_building(tmp_path / "a", cap=2).open().work / "part").exists()


def test_replaced_artefact_stays_until_the_new_one_is_whole(tmp_path):
    first = _building(tmp_path / "a", cap=1).open()
    (first.work / "f").write_text("old")
    first.publish()
    second = _building(tmp_path / "a", cap=2).open()
    (second.work / "f").write_text("new")
    assert (tmp_path / "a" / "f").read_text() == "old"
    second.publish()
    assert (tmp_path / "a" / "f").read_text() == "new"


def test_run_killed_before_the_rename_is_only_renamed(tmp_path, monkeypatch):
    building = _building(tmp_path / "a", cap=1).open()
    (building.work / "f").write_text("data")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            building.publish()
    again = _building(tmp_path / "a", cap=1).open()
    assert again.finished
    assert again.publish().files["f"].bytes == 4
    assert (tmp_path / "a" / "f").read_text() == "data"


@pytest.mark.parametrize(
    "damage", [lambda t: t[: len(t) // 2], lambda t: b"{}", lambda t: b"\x00\xff", lambda t: json.dumps(json.loads(t) | {"format": 99}).encode()]
)
def test_damaged_or_newer_manifest_is_refused(tmp_path, damage):
    building = _building(tmp_path / "a").open()
    building.publish()
    path = tmp_path / "a" / NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SnowError, match=r"delete .*a"):
        read_manifest(tmp_path / "a")


def test_write_atomically_replaces(tmp_path):
    write_atomically(tmp_path / "f", b"one")
    write_atomically(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_second_run_in_a_folder_is_refused_with_the_owner_named(tmp_path):
    script = f"""
    from pathlib import Path
    from megatron_snow.artifacts.errors import SnowError
    from megatron_snow.artifacts.publish import exclusive
    try:
        with exclusive(Path({str(tmp_path)!r})):
            print("held")
    except SnowError as error:
        print(error)
    """

    def attempt():
        return subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True).stdout

    with exclusive(tmp_path):
        assert f"process {os.getpid()}" in attempt()
    assert attempt() == "held\n"


def test_the_lock_of_a_killed_run_does_not_live_on_in_its_children(tmp_path):
    """A forked child (a manager of datatrove's, for one) holds every open file of its parent."""
    script = f"""
    import os, signal, time
    from pathlib import Path
    from megatron_snow.artifacts.publish import exclusive
    with exclusive(Path({str(tmp_path)!r})):
        child = os.fork()
        if child:
            print(child, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as run:
        child = int(run.stdout.readline())
        run.wait()
        try:
            with exclusive(tmp_path):
                os.kill(child, 0)  # it is alive, and the folder is free
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_whoever_started_them(tmp_path, method, number):
    """Two workers of a pool in the middle of long tasks; a fork server, which is their parent to the kernel, ends too."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
    import multiprocessing, time
    from concurrent.futures import ProcessPoolExecutor
    from megatron_snow.artifacts.orphans import end_with_parent

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        with ProcessPoolExecutor(2, mp_context=context, initializer=end_with_parent) as pool:
            pool.submit(print, "at work", flush=True).result()
            for _ in range(2):
                pool.submit(time.sleep, 60)
            time.sleep(60)
    """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "at work\n"
        started = psutil.Process(run.pid).children(recursive=True)
        assert len(started) >= 2
        run.send_signal(number)
        run.wait()
        _, alive = psutil.wait_procs(started, timeout=10)
        for process in alive:
            process.kill()
        assert not alive


def test_unwritable_output_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SnowError, match="choose another with --out"), exclusive(tmp_path / "file" / "out"):
        pass
