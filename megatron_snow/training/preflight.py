"""Before hours of training: do all ranks run the same code, see their device and the shared folder, and add up right together?

Each rank looks at itself and reports; rank 0 compares and names the nodes that differ. Only then do they try a collective,
which one bad node would hang.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import versions
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.cluster import expected_nodes, node_name, threads_of_rank
from megatron_snow.training.crew import Crew
from megatron_snow.training.worker import own_device

_REPORT = 120.0  # seconds a rank that has joined may take to look around. Ours: a slow file system's first reads of the package
_COLLECTIVE = 120.0  # seconds for the collectives. Ours: nccl's first connections among hundreds of GPUs take under a minute
_VISIBLE = 15.0  # seconds until a file of one node must show on another. Ours: NFS caches folders' contents for some seconds
_CLOCKS = 5.0  # seconds by which clocks may differ. Ours: well above what this measures with, well below what munge refuses (300)
_MESSAGE = {"cuda": 256 * 2**20, "cpu": 4 * 2**20}  # bytes all-reduced. Ours: on GPUs long enough to be bound by bandwidth
_ROUNDS = 5


def preflight(layout: Layout, out: Path, crew: Crew) -> str | None:
    """Check the ranks of ``crew`` against each other; returns what was found, on rank 0. Every rank calls it.

    Raises:
        SnowError: naming the nodes that are not as the others, or the collective that failed.
    """
    layout.data_parallel(crew.numbers.world)
    token = crew.agree(lambda: _leave_token(out))
    found = crew.gather(_look_around(crew, out, token), _REPORT)
    heard = crew.agree(lambda: (time.time(), found and _complaints(found, crew.numbers.world)))
    clocks = crew.gather((node_name(os.environ), time.time() - heard[0]), _REPORT, found.keys())
    late = {node for node, offset in clocks.values() if abs(offset) > _CLOCKS}
    problems = crew.agree(lambda: heard[1] + [f"{node}: its clock is more than {_CLOCKS:.0f} s off rank 0's: set it right (ntp)" for node in sorted(late)])
    if crew.leader:
        problems += _unseen(out, token, found)
        shutil.rmtree(out / str(token), ignore_errors=True)
    problems = crew.agree(lambda: problems)
    if problems:
        raise SnowError("pre-flight found\n" + "\n".join(f"  {problem}" for problem in problems))
    rates = crew.gather(_collectives(crew), _COLLECTIVE)
    return _summary(found, rates) if crew.leader else None


def _look_around(crew: Crew, out: Path, token: str | None) -> dict[str, Any]:
    """What this rank finds; every failure is a finding."""
    facts: dict[str, Any] = {"node": node_name(os.environ), "versions": {**versions(), "megatron_snow's code": _code()}}
    try:
        facts["device"] = _device(crew.numbers.local_rank)
    except (SnowError, RuntimeError) as error:
        facts["device"] = f"failed: {error}"
    facts["folder"] = _try_folder(out, token, crew.numbers.rank)
    return facts


def _code() -> str:
    """A digest of this package's modules and its compiled part: the same release, edited on one node, differs."""
    root = Path(__file__).parents[1]
    compiled = importlib.util.find_spec("megatron_snow._csrc")
    digest = hashlib.sha256()
    for path in [*sorted(root.rglob("*.py")), *([Path(compiled.origin)] if compiled and compiled.origin else [])]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _device(local_rank: int) -> str:
    """The name of the rank's device, after it has multiplied right. Raises RuntimeError where it does not work."""
    index = own_device(local_rank)
    device = torch.device("cuda", index) if torch.cuda.is_available() else torch.device("cpu")
    left, right = (torch.randint(0, 8, (256, 256), generator=torch.Generator().manual_seed(seed)).float() for seed in (1, 2))
    if not torch.equal((left.to(device) @ right.to(device)).cpu().long(), left.long() @ right.long()):  # sums of small whole numbers are exact
        raise RuntimeError("it multiplies wrongly")
    return f"{torch.cuda.get_device_name(index)} {torch.cuda.get_device_properties(index).uuid}" if device.type == "cuda" else "CPU"


def _leave_token(out: Path) -> str | None:
    """A folder of this pre-flight's own in the output folder; None where it cannot be made."""
    name = f".preflight-{os.environ.get('SLURM_JOB_ID', os.getpid())}-{time.time_ns()}"
    try:
        (out / name).mkdir(parents=True)
    except OSError:
        return None
    return name


def _try_folder(out: Path, token: str | None, rank: int) -> str | None:
    """What is wrong with the shared folder as this rank sees it."""
    if token is None:
        return None  # rank 0 says what it met
    end = time.monotonic() + _VISIBLE
    while not (out / token).is_dir():
        if time.monotonic() > end:
            return f"sees another folder at {out} than rank 0: what rank 0 wrote is not there; mount the shared file system on all nodes"
        time.sleep(0.1)
    try:
        (out / token / str(rank)).write_text(str(rank))
    except OSError as error:
        return f"cannot write to {out}: {error.strerror}"
    return None


def _complaints(found: dict[int, Any], world: int) -> list[str]:
    """What rank 0 makes of the reports, a line a problem, the node first."""
    problems: dict[str, set[str]] = defaultdict(set)
    expected = expected_nodes(os.environ)
    for rank in sorted(set(range(world)) - found.keys()):
        problems[expected[rank] if rank < len(expected) else "an unknown node"].add(f"nothing was heard of rank {rank}: see its own messages")
    for name in sorted({name for facts in found.values() for name in facts["versions"]}):
        held = Counter(facts["versions"].get(name, "none") for facts in found.values())
        usual = held.most_common(1)[0][0]
        for facts in found.values():
            if (version := facts["versions"].get(name, "none")) != usual:
                problems[facts["node"]].add(f"has {name} {version}, most have {usual}")
    gpus = any(not facts["device"].startswith(("CPU", "failed")) for facts in found.values())
    owners: dict[tuple[str, str], int] = {}
    for rank, facts in found.items():
        node, device = facts["node"], facts["device"]
        if device.startswith("failed") or (gpus and device == "CPU"):
            problems[node].add(f"rank {rank} has no working GPU: {device}")
        elif gpus and owners.setdefault((node, device), rank) != rank:
            problems[node].add(f"ranks {owners[node, device]} and {rank} have the same GPU: ask for one task a GPU")
        if facts["folder"]:
            problems[node].add(facts["folder"])
    return [f"{node}: {problem}" for node in sorted(problems) for problem in sorted(problems[node])]


def _unseen(out: Path, token: str | None, found: dict[int, Any]) -> list[str]:
    """Nodes whose files rank 0 does not see, though they could write them."""
    if token is None:
        return [f"{node_name(os.environ)}: rank 0 cannot write to {out}"]
    wrote = {rank for rank, facts in found.items() if facts["folder"] is None}
    end = time.monotonic() + _VISIBLE
    while missing := {rank for rank in wrote if not (out / token / str(rank)).exists()}:
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return sorted({f"{found[rank]['node']}: what it writes to {out} does not show on {node_name(os.environ)}" for rank in missing})


def _collectives(crew: Crew) -> dict[str, Any]:
    """All-reduce whole numbers: right on this rank? At what bus bandwidth (bytes/s, as nccl-tests count it)?

    Through torch alone: megatron's groups are made of the same, and take seconds to import.
    """
    numbers, gpu, patience = crew.numbers, torch.cuda.is_available(), datetime.timedelta(seconds=_COLLECTIVE)
    device = torch.device("cuda", own_device(numbers.local_rank)) if gpu else torch.device("cpu")
    torch.set_num_threads(threads_of_rank(os.environ, len(os.sched_getaffinity(0))))
    if gpu:
        torch.cuda.set_device(device)
    store, _, _ = next(rendezvous(crew.rendezvous, numbers.rank, numbers.world, timeout=patience))
    dist.init_process_group(_communication(), store=PrefixStore("preflight", store), rank=numbers.rank, world_size=numbers.world, timeout=patience)
    size = _MESSAGE[device.type]
    tensor = torch.empty(size // 4, dtype=torch.float32, device=device)
    seconds, right = [], True
    for _ in range(_ROUNDS):
        tensor.fill_(float(numbers.rank + 1))
        dist.barrier()
        began = time.monotonic()
        dist.all_reduce(tensor)
        right &= bool((tensor == numbers.world * (numbers.world + 1) / 2).all())  # waits for the device
        seconds.append(time.monotonic() - began)
    dist.destroy_process_group()
    return {"node": node_name(os.environ), "right": right, "rate": size / min(seconds) * 2 * (numbers.world - 1) / numbers.world}


def _communication() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _summary(found: dict[int, Any], rates: dict[int, Any]) -> str:
    wrong = sorted({rate["node"] for rate in rates.values() if not rate["right"]})
    if wrong:
        raise SnowError(f"pre-flight: all-reduce gave wrong sums on {', '.join(wrong)}: have these nodes or their network looked at")
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, facts in found.items():
        ranks[facts["node"]].append(rank)
    shared = next(iter(found.values()))["versions"]
    lines = [f"pre-flight: {len(found)} ranks on {len(ranks)} nodes agree"]
    for node, own in ranks.items():
        slowest = min(rates[rank]["rate"] for rank in own)
        lines.append(f"  {node}: ranks {own[0]} to {own[-1]}, {found[own[0]]['device']}, all-reduce {format_bytes(slowest)}/s (bus bandwidth)")
    lines.append("  " + ", ".join(f"{name} {version}" for name, version in shared.items()))
    lines.append(f"  shared folder written and seen by all, clocks within {_CLOCKS:.0f} s, {_communication()} sums right")
    return "\n".join(lines)


def report(layout: Layout, out: Path, crew: Crew) -> None:
    """``preflight``, said to the user."""
    said = preflight(layout, out, crew)
    if said is not None:
        say(said)
