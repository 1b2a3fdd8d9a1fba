"""Tarballs and zip files: every compression, names, licences, and what is built to do harm."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build, source_fingerprint
from megatron_snow.corpus.archives import ArchiveError, archive_files, archives_fingerprint, members, repository_name, survey
from megatron_snow.corpus.language import Names
from megatron_snow.corpus.repositories import list_archives
from megatron_snow.corpus.settings import ArchivesSource, CorpusSettings
from tests.corpus.test_build import code
from tests.corpus.test_license_texts import MIT

FILES = {"top/LICENSE": MIT.encode(), "top/src/a.py": b"x = 1\n", "top/src/b.c": b"int b;\n", "top/empty.py": b""}
GIB = 2**30


def tar_bytes(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            entry = tarfile.TarInfo("top/odd" + kind.decode())
            entry.type, entry.linkname = kind, "../../etc/passwd"
            tar.addfile(entry)
    return out.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        link = zipfile.ZipInfo("top/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../../etc/passwd")
    return out.getvalue()


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "p-1.0.tar": tar_bytes,
    "p-1.0.tar.gz": lambda files: gzip.compress(tar_bytes(files)),
    "p-1.0.tgz": lambda files: gzip.compress(tar_bytes(files)),
    "p-1.0.tar.bz2": lambda files: bz2.compress(tar_bytes(files)),
    "p-1.0.tar.xz": lambda files: lzma.compress(tar_bytes(files)),
    "p-1.0.tar.zst": lambda files: zstandard.compress(tar_bytes(files)),
    "p-1.0.zip": zip_bytes,
}


def contents(file: Path) -> dict[str, bytes]:
    return {member.path: member.content() for member in members(file, survey(file, GIB).prefix, GIB)}


@pytest.mark.parametrize("name", PACKERS)
def test_every_compression(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(PACKERS[name](FILES))
    found = survey(file, GIB, entries=True)
    assert (found.files, found.prefix, found.license) == (4, "top/", "MIT")
    assert found.entries == [(path, len(content)) for path, content in FILES.items()]
    assert contents(file) == {path.removeprefix("top/"): content for path, content in FILES.items()}


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "p-1.0.tar"])
def test_what_is_cut_short_or_no_archive_is_refused_whole(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    whole = PACKERS[name]({**FILES, "top/more.py": bytes(range(256)) * 40})
    for content in (whole[: len(whole) // 2], whole[:-30], b"no archive at all", b""):
        file.write_bytes(content)
        with pytest.raises(ArchiveError, match="damaged archive"):
            survey(file, GIB)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("redis_7.0.15.orig.tar.gz", ("redis", "")),
        ("lua5.4_5.4.4.orig.tar.gz", ("lua5.4", "")),
        ("node-d3_3.5.17.orig-format.tar.xz", ("node-d3", "format/")),
        ("ansible_7.7.0+dfsg-3+deb12u1.debian.tar.xz", ("ansible", "")),
        ("debhelper_13.11.4.tar.xz", ("debhelper", "")),
        ("requests-2.32.3.tar.gz", ("requests", "")),
        ("scikit-learn-1.9.0rc1.zip", ("scikit-learn", "")),
        ("x86-64-tools.tar", ("x86-64-tools", "")),
        ("linux-v6.1.tar.xz", ("linux", "")),
        ("plain.tgz", ("plain", "")),
    ],
)
def test_repositories_are_named_for_their_project(name: str, repository: tuple[str, str]) -> None:
    assert repository_name(Path(name)) == repository


def test_bombs_are_refused_before_they_burst(tmp_path: Path) -> None:
    """Sizes that are declared, sizes that are not, headers that are read into memory, a directory that lies."""
    declared = tmp_path / "declared.zip"
    with zipfile.ZipFile(declared, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros.py", "w") as out:
        for _ in range(70):
            out.write(bytes(2**20))
    tarred = tmp_path / "tarred.tar.gz"
    with tarfile.open(tarred, "w:gz", compresslevel=9) as tar:
        entry = tarfile.TarInfo("zeros.py")
        entry.size = 70 * 2**20
        tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    header = tarfile.TarInfo("a.py").tobuf(tarfile.PAX_FORMAT)
    huge = tarfile.TarInfo("PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 150 * 2**20
    stream = zstandard.ZstdCompressor().compressobj()
    pax = tmp_path / "pax.tar.zst"
    with pax.open("wb") as out:
        out.write(stream.compress(huge.tobuf()))
        for _ in range(150):
            out.write(stream.compress(bytes(2**20)))
        out.write(stream.compress(header) + stream.flush())
    lying = tmp_path / "lying.zip"
    honest = zip_bytes({"a.py": b"x" * 5000})
    lying.write_bytes(honest.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    tracemalloc.start()
    for file, reason in ((declared, "archive is a bomb"), (tarred, "archive is a bomb"), (pax, "archive is a bomb")):
        with pytest.raises(ArchiveError, match=reason):
            survey(file, GIB)
    with pytest.raises(ArchiveError, match=r"bomb|damaged"):
        contents(lying)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20
    with pytest.raises(ArchiveError, match="archive too large"):
        survey(declared, 50 * 2**20)


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    """A dictionary of 512 MB is asked for in the header, whatever is packed."""
    packed = lzma.compress(tar_bytes({"a.py": b"x = 1\n"}))
    asking = bytearray(packed)
    place = asking.index(b"\x21\x01", 12)  # the filter's id and the size of its properties; then the dictionary's size in one byte
    asking[place + 2] = 34  # 2 ** (34 // 2 + 12), https://tukaani.org/xz/xz-file-format.txt section 5.3.1
    end = 12 + 4 * asking[12]  # of the block's header, where its checksum stands
    asking[end : end + 4] = zlib.crc32(asking[12:end]).to_bytes(4, "little")
    (tmp_path / "p-1.0.tar.xz").write_bytes(asking)
    with pytest.raises(ArchiveError, match="damaged archive") as refused:
        survey(tmp_path / "p-1.0.tar.xz", 10**9)
    assert "memory" in str(refused.value.__cause__).lower()
    (tmp_path / "p-1.1.tar.xz").write_bytes(packed + b"\0" * 8 + lzma.compress(b""))  # padded, and a second stream
    assert survey(tmp_path / "p-1.1.tar.xz", 10**9).files == 1


def test_names_that_lead_outside_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "p.tar"
    file.write_bytes(tar_bytes({"../evil.py": b"a", "/abs/b.py": b"b", "./c.py": b"c", "d/../../e.py": b"e"}))
    assert contents(file) == {"abs/b.py": b"b", "c.py": b"c"}


def write_archives(folder: Path) -> ArchivesSource:
    """Five repositories with a licence and one without, one damaged archive, one with files no one wants."""
    folder.mkdir()
    for number in range(5):
        files = {f"r{number}-1.0/m{i}.py": code(f"r{number}m{i}").encode() for i in range(3)} | {f"r{number}-1.0/LICENSE": MIT.encode()}
        (folder / f"r{number}-1.0.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
    files = {
        "q/a.py": code("q").encode(),
        "q/tool": b"#!/usr/bin/python3\n" + code("tool").encode(),
        "q/blob": b"\x7fELF",
        "q/x.png": b"\x89PNG",
        "q/l.py": LFS,
    }
    (folder / "q_2.orig.zip").write_bytes(zip_bytes(files))
    (folder / "broken-1.0.tar.xz").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no archive")
    return ArchivesSource(name="tarballs", path=folder)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def test_the_arrow_reads_archives_and_accounts_for_everything(tmp_path: Path) -> None:
    source = write_archives(tmp_path / "in")
    work = tmp_path / "work"
    work.mkdir()
    counts = build(CorpusSettings(sources=(source,), heldout_fraction=0.3, workers=1), 1, work)
    summary = json.loads((work / "summary.json").read_text())
    assert summary["drops"] == {"Git LFS pointer": {"Python": 1}, "damaged archive": {"unknown": 1}}
    assert summary["sources"]["tarballs"]["archives"] == 7 and summary["sources"]["tarballs"]["not code by name"] == 5 + 2  # LICENSE; blob, x.png
    assert summary["examples"]["damaged archive"][0]["id"] == "tarballs/broken"
    documents = [d for side in ("standard", "heldout") for d in read_documents(work / side)]
    assert {(d["repository"], d["license"]) for d in documents} == {*((f"r{n}", "MIT") for n in range(5)), ("q", "")}
    assert {d["path"] for d in documents if d["repository"] == "q"} == {"a.py", "tool"}
    assert counts["documents_in"] == 15 + 3 + 1 and len(documents) == 17


def test_a_sample_is_under_its_cap_and_the_rest_is_counted(tmp_path: Path) -> None:
    source = write_archives(tmp_path / "in").model_copy(update={"max_bytes": 20_000})
    work = tmp_path / "work"
    work.mkdir()
    build(CorpusSettings(sources=(source,), heldout_fraction=0.3, workers=1), 1, work)
    summary = json.loads((work / "summary.json").read_text())
    told = summary["sources"]["tarballs"]
    assert 8_000 < told["bytes read"] <= 20_000
    assert told["not sampled"] == told["files"] - (summary["in"] - 1) - told["not code by name"]
    assert summary["drops"]["damaged archive"] == {"unknown": 1}


def test_links_that_lead_to_no_archive_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/p-1.0.tar.gz").write_bytes(PACKERS["p-1.0.tar.gz"](FILES))
    (tmp_path / "in/gone-1.0.tar.gz").symlink_to(tmp_path / "nowhere.tar.gz")
    (tmp_path / "in/deep/around").symlink_to(tmp_path / "in")
    source = ArchivesSource(name="a", path=tmp_path / "in")
    _, told = list_archives(source, 1, Names(CorpusSettings().languages, ()), GIB)
    assert told["archives"] == 1 and told["links that lead to no file"] == 1 and told["linked folders not followed"] == 1


def test_what_can_be_mended_is_said_and_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="absent does not exist; mend 'path'"):
        archive_files(ArchivesSource(name="a", path=tmp_path / "absent"))
    with pytest.raises(SnowError, match=r"holds no \.tar"):
        archive_files(ArchivesSource(name="a", path=tmp_path))
    source = write_archives(tmp_path / "in")
    before = archives_fingerprint(source)
    settings = CorpusSettings(sources=(source,))
    assert source_fingerprint(settings) == source_fingerprint(settings)
    (tmp_path / "in/r1-1.0.tar.gz").write_bytes(b"other")
    assert archives_fingerprint(source) != before
