"""Local clones: at a commit, bare or not, with submodules and links and LFS pointers, and against git's own checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build, source_fingerprint
from megatron_snow.corpus.git import blobs, clone_license, clones, git_fingerprint, linked_folders, read_blobs
from megatron_snow.corpus.settings import CorpusSettings, GitSource
from tests.corpus.test_archives import LFS
from tests.corpus.test_build import code
from tests.corpus.test_license_texts import MIT

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def make(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """A repository with two commits: the files, then one of them changed."""
    place = folder / name
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    git(place, "remote", "add", "origin", f"https://user:pw@host.org/owner/{name}.git")
    for path, content in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "first")
    (place / "late.py").write_bytes(code(f"late{name}").encode())
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "second")
    git(place, "tag", "v2")
    (place / "uncommitted.py").write_text("x = 1\n")
    return place


FILES = {"LICENSE": MIT.encode(), "src/a é.py": code("a").encode(), "data.bin": bytes(300), "lfs.py": LFS, "tool": b"#!/bin/sh\necho a\n"}


def source(path: Path, **more: object) -> GitSource:
    return GitSource.model_validate({"name": "clones", "path": path, **more})


def test_a_clone_at_a_commit_is_what_git_checks_out(tmp_path: Path) -> None:
    place = make(tmp_path, "one", FILES)
    os.symlink("/etc/passwd", place / "link.py")
    git(place, "add", "link.py")
    git(place, "update-index", "--add", "--cacheinfo", f"160000,{git(place, 'rev-parse', 'HEAD')},vendored/sub")
    git(place, "commit", "-q", "-m", "third")
    (clone,) = clones(source(place))
    assert (clone.repository, clone.commit) == ("owner/one", git(place, "rev-parse", "HEAD"))
    listed, others = blobs(clone)
    assert others == {"submodules": 1, "symbolic links": 1, "missing objects": 0}
    expected = FILES | {"late.py": code("lateone").encode()}
    assert {blob.path: blob.size for blob in listed} == {path: len(content) for path, content in expected.items()}
    contents = read_blobs(Path(clone.location), [blob.object for blob in listed])
    assert {blob.path: content for blob, content in zip(listed, contents, strict=True)} == expected
    assert clone_license(clone, listed) == "MIT"
    (first,) = clones(source(place, revision="v2~1"))
    assert "late.py" not in {blob.path for blob in blobs(first)[0]}


def test_bare_clones_and_folders_of_clones(tmp_path: Path) -> None:
    one = make(tmp_path / "work", "one", FILES)
    two = make(tmp_path / "work", "two", FILES)
    git(tmp_path, "clone", "-q", "--bare", str(one), str(tmp_path / "bare/one.git"))
    os.symlink(tmp_path, tmp_path / "work/around")  # a cycle
    found = clones(source(tmp_path))
    assert [Path(clone.location).relative_to(tmp_path).as_posix() for clone in found] == ["bare/one.git", "work/one/.git", "work/two/.git"]
    assert [clone.repository for clone in found][1:] == ["owner/one", "owner/two"]
    assert linked_folders(source(tmp_path)) == 1 and linked_folders(source(one)) == 0
    before = git_fingerprint(source(two))
    git(two, "commit", "-q", "--allow-empty", "-m", "more")
    assert git_fingerprint(source(two)) != before and git_fingerprint(source(two, revision="v2")) == git_fingerprint(source(two, revision="v2"))


def test_missing_objects_cost_their_file(tmp_path: Path) -> None:
    place = make(tmp_path, "one", FILES)
    name = git(place, "rev-parse", "HEAD:late.py")
    (place / ".git/objects" / name[:2] / name[2:]).unlink()
    (clone,) = clones(source(place))
    assert list(read_blobs(Path(clone.location), [name, "0" * 40, git(place, "rev-parse", "HEAD:tool")])) == [None, None, FILES["tool"]]


def test_a_hostile_configuration_runs_nothing(tmp_path: Path) -> None:
    place = make(tmp_path, "one", FILES)
    mark = tmp_path / "ran"
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external", "alias.ls-tree", "alias.cat-file"):
        git(place, "config", key, f"!touch {mark}" if key.startswith("alias") else f"touch {mark}")
    (clone,) = clones(source(place))
    listed, _ = blobs(clone)
    assert len(list(read_blobs(Path(clone.location), [blob.object for blob in listed]))) == len(listed) and not mark.exists()


def test_the_arrow_reads_clones_and_accounts_for_everything(tmp_path: Path) -> None:
    for number in range(4):
        make(tmp_path / "in", f"r{number}", {**FILES, "src/a é.py": code(f"r{number}").encode(), "tool": b"#!/bin/sh\n" + b"echo one more line\n" * number})
    work = tmp_path / "work"
    work.mkdir()
    settings = CorpusSettings(sources=(source(tmp_path / "in"),), heldout_fraction=0.3, workers=1)
    build(settings, 1, work)
    summary = json.loads((work / "summary.json").read_text())
    assert summary["drops"]["Git LFS pointer"] == {"Python": 4} and summary["sources"]["clones"]["clones"] == 4
    assert summary["sources"]["clones"]["not code by name"] == 4 + 4  # data.bin; LICENSE, which has no suffix and is looked into
    documents = [d for side in ("standard", "heldout") for d in read_documents(work / side)]
    assert {d["repository"] for d in documents} == {f"owner/r{n}" for n in range(4)} and {d["license"] for d in documents} == {"MIT"}
    assert {d["path"] for d in documents if d["language"] == "Python"} == {"src/a é.py", "late.py"}
    assert source_fingerprint(settings) == source_fingerprint(settings)


def test_what_can_be_mended_is_said(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="absent does not exist"):
        clones(source(tmp_path / "absent"))
    with pytest.raises(SnowError, match="is no git clone and holds none"):
        clones(source(tmp_path))
    make(tmp_path, "one", FILES)
    with pytest.raises(SnowError, match="has no revision 'v9'"):
        clones(source(tmp_path, revision="v9"))
    with pytest.raises(ValueError, match="pattern"):
        source(tmp_path, revision="--upload-pack=x")
