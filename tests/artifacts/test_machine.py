from __future__ import annotations

import os
from pathlib import Path

import psutil

from megatron_snow.artifacts.machine import Machine, this_machine
from megatron_snow.artifacts.publish import Building


def test_this_machine_is_what_psutil_sees() -> None:
    found = this_machine()
    assert found.cores == len(psutil.Process().cpu_affinity())
    assert abs(found.memory - psutil.virtual_memory().total) <= 2**20
    assert found.processor and found.system.startswith(os.uname().sysname)


def test_cards_and_processor_are_read_from_what_the_kernel_and_the_driver_write(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD  EPYC 9654\nmodel name\t: another\n")
    for bus, model in (("0000:01:00.0", "NVIDIA H100 80GB HBM3"), ("0000:02:00.0", "NVIDIA H100 80GB HBM3")):
        folder = tmp_path / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 90\n")
    found = this_machine(cpuinfo, tmp_path / "gpus")
    assert found.processor == "AMD EPYC 9654" and found.gpus == ("NVIDIA H100 80GB HBM3",) * 2
    assert found.describe().endswith("; 2 x NVIDIA H100 80GB HBM3")


def test_what_the_kernel_does_not_tell_is_left_out(tmp_path: Path) -> None:
    found = this_machine(tmp_path / "no", tmp_path / "none")
    assert found.gpus == () and found.processor == os.uname().machine
    assert Machine(processor="x", cores=1, memory=2**30).describe() == "1 core of x, 1.0 GiB"


def test_a_manifest_says_where_it_was_published(tmp_path: Path) -> None:
    manifest = Building(tmp_path / "a", "arrow", 1, {}, 7, {}).open().publish()
    assert manifest.machine == this_machine()
