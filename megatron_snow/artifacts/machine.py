"""The machine an artefact was made on, for people who compare times. Starts no driver, imports no torch, names no host."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import format_bytes

_CPUINFO, _NVIDIA = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


class Machine(Settings):
    """What the process that published an artefact ran on; its helpers on other nodes may have had others."""

    processor: str
    cores: int
    """That the process may use."""
    memory: int
    """Bytes, as the kernel counts; a container may be allowed less."""
    gpus: tuple[str, ...] = ()
    system: str = ""

    def describe(self) -> str:
        """``2 cores of Intel Xeon, 23.5 GiB; 1 x NVIDIA H100``."""
        cards = [f"{self.gpus.count(card)} x {card}" for card in dict.fromkeys(self.gpus)]
        return "; ".join([f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.processor}, {format_bytes(self.memory)}", *cards])


def this_machine(cpuinfo: Path = _CPUINFO, nvidia: Path = _NVIDIA) -> Machine:
    """This one. What it does not tell is left out or named by its architecture."""
    return Machine(
        processor=_processor(cpuinfo) or platform.machine() or "an unknown processor",
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        gpus=tuple(_cards(nvidia)),
        system=f"{platform.system()} {platform.release()}",
    )


def _processor(cpuinfo: Path) -> str:
    """x86 writes ``model name``; Arm writes none."""
    return next((value for line in _lines(cpuinfo) if (value := _value(line, "model name"))), "")


def _cards(nvidia: Path) -> list[str]:
    """NVIDIA's driver keeps a file a card that says ``Model: ...``; other makers' cards are not looked for."""
    found = [next((value for line in _lines(path) if (value := _value(line, "Model"))), "") for path in sorted(nvidia.glob("*/information"))]
    return [card for card in found if card]


def _value(line: str, key: str) -> str:
    name, _, value = line.partition(":")
    return " ".join(value.split()) if name.strip() == key else ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
