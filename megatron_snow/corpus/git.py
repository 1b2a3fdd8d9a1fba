"""Local git clones, bare or not, read from their objects at one commit: no checkout, no hook, no network.

Only plumbing commands run, with the repository named outright and the user's and the machine's configuration left out. A
clone's own configuration cannot make them run anything, and objects a partial clone lacks are not fetched.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.settings import digest
from megatron_snow.corpus.license_texts import files_license, is_license_file
from megatron_snow.corpus.settings import GitSource

ADDRESS = re.compile(r"[\w.+-]+://(?:[^@/]*@)?[^/]+/|[\w.-]+@[\w.-]+:")
"""What stands before a repository's name in its address: scheme, user and host."""
_REMOTE = re.compile(rf"(?:{ADDRESS.pattern})(?P<path>[^?#]+?)(?:\.git)?/?")
_LICENSE_BYTES = 200_000  # of a licence file; larger ones are none (ours: the GPL has 35,000)


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a commit."""

    object: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Clone:
    """A repository at a commit; its files are listed, not read."""

    location: str
    """The git folder."""
    repository: str
    commit: str


def clones(source: GitSource) -> list[Clone]:
    """The clones of a source, sorted by place. Raises SnowError where there is none, or one lacks the revision."""
    if not source.path.exists():
        raise SnowError(f"corpus source {source.name}: {source.path} does not exist; mend 'path'")
    folders = [folder for folder, _ in _walk(source.path) if folder is not None]
    if not folders:
        raise SnowError(f"corpus source {source.name}: {source.path} is no git clone and holds none; mend 'path'")
    return [_clone(source, folder) for folder in folders]


def linked_folders(source: GitSource) -> int:
    """How many links to folders stand beside the clones of a source, or above them; they are not followed."""
    return sum(links for _, links in _walk(source.path))


def _walk(root: Path) -> Iterator[tuple[Path | None, int]]:
    """For ``root`` and the folders below it: the git folder where it is a clone, which is not walked further, and the links to folders in it."""
    for folder, names, _ in os.walk(root):
        here = Path(folder)
        found = next((one for one in (here / ".git", here) if (one / "HEAD").is_file() and (one / "objects").is_dir()), None)
        if found:
            names.clear()
        yield found, sum((here / name).is_symlink() for name in names)
        names.sort()


def _clone(source: GitSource, folder: Path) -> Clone:
    try:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{source.revision}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError as error:
        raise SnowError(f"corpus source {source.name}: {folder} has no revision {source.revision!r}; mend 'revision' or fetch it") from error
    place = folder.parent if folder.name == ".git" else folder
    try:
        remote = _git(folder, "config", "--get", "remote.origin.url").decode().strip()
    except subprocess.CalledProcessError:
        remote = ""
    match = _REMOTE.fullmatch(remote)
    return Clone(str(folder), match["path"].lstrip("/") if match else place.name.removesuffix(".git"), commit)


def blobs(clone: Clone) -> tuple[list[Blob], dict[str, int]]:
    """The regular files of the commit, and how many entries are none: submodules, symbolic links, files the clone lacks."""
    found: list[Blob] = []
    others = {"submodules": 0, "symbolic links": 0, "missing objects": 0}
    for entry in _git(Path(clone.location), "ls-tree", "-r", "-z", "-l", "--full-tree", clone.commit).split(b"\0"):
        if not entry:
            continue
        described, _, path = entry.partition(b"\t")
        mode, kind, name, size = described.decode().split()
        if kind == "commit":
            others["submodules"] += 1
        elif mode == "120000":
            others["symbolic links"] += 1
        elif not size.isdigit():  # "BAD": a partial clone does not have it
            others["missing objects"] += 1
        else:
            found.append(Blob(name, path.decode(errors="replace"), int(size)))
    return found, others


def clone_license(clone: Clone, listed: Sequence[Blob]) -> str:
    """SPDX expression of the licence files in the repository's root."""
    wanted = [blob for blob in listed if is_license_file(blob.path) and blob.size <= _LICENSE_BYTES]
    contents = read_blobs(Path(clone.location), [blob.object for blob in wanted])
    return files_license((blob.path, (content or b"").decode(errors="replace")) for blob, content in zip(wanted, contents, strict=True))


def read_blobs(folder: Path, objects: Iterable[str]) -> Iterator[bytes | None]:
    """The contents of objects, in order, None where the clone lacks one; one process of ``git cat-file --batch`` reads them all."""
    names = list(objects)
    if not names:
        return
    with subprocess.Popen(
        [*_command(folder), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            for name in names:  # one question at a time: with all of them written first, both sides would wait for a full pipe
                process.stdin.write(name.encode() + b"\n")
                process.stdin.flush()
                described = process.stdout.readline().split()
                if len(described) != 3:
                    yield None
                    if not described:
                        return  # it ended: a damaged repository; what follows counts as missing to the caller
                    continue
                content = process.stdout.read(int(described[2]))
                process.stdout.read(1)
                yield content if described[1] == b"blob" else None
        finally:
            process.stdin.close()
            process.kill()


def git_fingerprint(source: GitSource) -> str:
    """Changes with the clones' names and the commits ``revision`` stands for."""
    return digest([[clone.repository, clone.commit] for clone in clones(source)])


def _command(folder: Path) -> list[str]:
    return ["git", "--git-dir", str(folder), "--no-replace-objects"]


def _environment() -> dict[str, str]:
    """No configuration but the repository's own, no prompts, no locks, no lazy fetches."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
    }


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(
            [*_command(folder), *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        ).stdout
    except FileNotFoundError as error:
        raise SnowError("reading git clones needs the command git; install it (apt-get install git)") from error
