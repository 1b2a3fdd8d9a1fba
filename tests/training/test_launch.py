from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import latest, read_description
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.launch import _judge
from megatron_snow.training.records import METRICS, read_rows
from megatron_snow.training.spec import RunSpec
from tests.training import small

LAUNCH = """
import sys
from pathlib import Path
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.training.launch import launch
from megatron_snow.training.spec import RunSpec
try:
    launch(RunSpec.model_validate_json(Path(sys.argv[1]).read_bytes()), 2)
except SnowError as error:
    sys.exit(f"SnowError: {error}")
"""


def start(spec: RunSpec, folder: Path) -> subprocess.Popen:
    (folder / "spec.json").write_text(spec.model_dump_json())
    return subprocess.Popen([sys.executable, "-c", LAUNCH, str(folder / "spec.json")], stderr=subprocess.PIPE, text=True)


def wait_for_rows(work: Path, count: int) -> None:
    deadline = time.monotonic() + 100
    while len(read_rows(work / METRICS)) < count:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


def test_a_signal_to_the_launcher_saves_and_a_kill_leaves_no_rank_behind(tokens: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run = small.spec(tokens, work, Layout(data=2), train=small.train(small.phase(100_000, max_epochs=1e9)))
    launcher = start(run, tmp_path)
    wait_for_rows(work, 3)
    launcher.send_signal(signal.SIGTERM)
    assert "SnowError: training of phase general was stopped by a signal and saved; run the same command again" in launcher.communicate(timeout=60)[1]
    rows, newest = read_rows(work / METRICS), latest(work)
    assert newest is not None and read_description(newest).step == rows[-1]["step"]

    launcher = start(run, tmp_path)
    wait_for_rows(work, len(rows) + 2)
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert len(family) == 3  # the nursery and two ranks
    os.kill(launcher.pid, signal.SIGKILL)
    assert f"goes on after step {rows[-1]['step']} of 100000" in launcher.communicate(timeout=60)[1]
    assert psutil.wait_procs(family, timeout=30)[1] == []


def errors(folder: Path, *reports: tuple[int, bool, str, float]) -> None:
    for rank, mendable, message, moment in reports:
        report = {"mendable": mendable, "message": message, "trace": f"Traceback\n{message}", "time": moment}
        (folder / f"error-{rank}.json").write_text(json.dumps(report))


def test_finished_ranks_are_no_error(tmp_path: Path) -> None:
    _judge(tmp_path, {0: 0, 1: 0}, "general")


def test_an_error_with_a_remedy_comes_first(tmp_path: Path) -> None:
    errors(tmp_path, (0, False, "Connection reset by peer", 1.0), (1, True, "the loss is nan", 2.0))
    with pytest.raises(SnowError, match=r"^the loss is nan$"):
        _judge(tmp_path, {0: 1, 1: 2}, "general")


def test_a_bug_keeps_its_own_traceback_not_that_of_a_lost_peer(tmp_path: Path) -> None:
    errors(tmp_path, (0, False, "Connection closed by peer", 1.0), (1, False, "IndexError", 2.0))
    with pytest.raises(RuntimeError, match="Traceback\nIndexError"):
        _judge(tmp_path, {0: 1, 1: 1}, "general")


def test_a_killed_rank_is_named_with_the_way_on(tmp_path: Path) -> None:
    errors(tmp_path, (0, False, "Connection closed by peer", 1.0))
    with pytest.raises(SnowError, match=r"rank 1 of phase general was killed by signal 9 \(SIGKILL; 9 is often a lack of memory\): run the same command"):
        _judge(tmp_path, {0: 1, 1: -9}, "general")


def test_ranks_without_a_report_show_their_log(tmp_path: Path) -> None:
    (tmp_path / "rank-1.log").write_text("Fatal Python error")
    with pytest.raises(RuntimeError, match="Fatal Python error"):
        _judge(tmp_path, {0: 1, 1: 1}, "general")
