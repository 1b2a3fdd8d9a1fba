"""Redaction as a whole: its settings, and that a planted secret is in no byte of what the arrow leaves or logs."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import zstandard
from datatrove.data import Document

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.corpus import build
from megatron_snow.corpus.engine import run_steps
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.redaction import Redactor
from megatron_snow.corpus.settings import CorpusSettings, FolderSource, RedactionSettings
from megatron_snow.corpus.steps import JudgeStep, ReadStep, SpoolStep
from tests.corpus.planted import KINDS, credential
from tests.corpus.test_build import code, row
from tests.corpus.test_steps import write_task

TEXT = "# jane@host.org\nserver = '93.184.216.34'\npath = '/home/jroe/x'\n"


def made_up(kind: str, seed: int) -> str:
    """A credential of a kind of the list, drawn here so that none is in the project's text."""
    return credential(next(k for k in KINDS["kinds"] if k["kind"] == kind), random.Random(seed))


def test_every_kind_can_be_left_replaced_or_a_reason_to_drop() -> None:
    key = made_up("Stripe secret key", 1)
    text = TEXT + f"key = '{key}'\n"
    redacted = Redactor(RedactionSettings()).redact(text)
    assert redacted.text == "# <EMAIL>\nserver = '<IP_ADDRESS>'\npath = '/home/<NAME>/x'\nkey = '<KEY>'\n" and redacted.reason is None
    assert {placeholder: count for (placeholder, _), count in redacted.found.items()} == {"<EMAIL>": 1, "<IP_ADDRESS>": 1, "<NAME>": 1, "<KEY>": 1}
    off = Redactor(RedactionSettings(secrets="off", email_addresses="off", ip_addresses="off", user_names="off"))
    assert off.redact(text).text == text and not off.redact(text).found
    for field, reason in {
        "secrets": "holds a secret",
        "email_addresses": "holds an e-mail address",
        "ip_addresses": "holds an IP address",
        "user_names": "holds a user name",
    }.items():
        settings = RedactionSettings.model_validate({field: "drop"})
        assert Redactor(settings).redact(text).reason == reason
        assert Redactor(settings).redact("x = 1\n").reason is None
    assert key not in off.shown(text) and "jane" not in off.shown(text)  # what is shown is redacted all the same


def test_what_stands_around_is_kept_in_any_script() -> None:
    key = made_up("GitHub personal access token", 2)
    assert Redactor(RedactionSettings()).redact(f"名 = 'é{key}' # ñ\n").text in (f"名 = 'é{'<KEY>'}' # ñ\n", f"名 = 'é{key}' # ñ\n")
    assert Redactor(RedactionSettings()).redact(f"名 = '{key}' # ñ 😀\n").text == "名 = '<KEY>' # ñ 😀\n"


def everything(folder: Path) -> bytes:
    """All bytes below a folder, compressed files as they read."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path).encode())
        if path.is_file():
            content = path.read_bytes()
            parts.append(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True).read() if path.suffix == ".zst" else content)
    return b"\n".join(parts)


def test_planted_secrets_are_in_no_byte_of_the_artefact(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In documents kept, held out, and dropped by every sort of rule; in a path; in a row that is no row."""
    keys = [made_up("GitHub personal access token", seed) for seed in range(9)]
    long, short = made_up("RSA private key", 98), made_up("EC private key", 99)
    rows = [row(f"owner/r{r}", f"m{i}.py", code(f"r{r}m{i}")) for r in range(6) for i in range(2)]
    rows += [row(f"owner/r{r}", "kept.py", f"token = '{keys[0]}'\n" + code(f"kept{r}")) for r in range(6)]
    rows += [
        row("owner/r0", "made.py", f"# auto-generated\ntoken = '{keys[1]}'\n" + code("made")),
        row("owner/r0", "long.py", f"token = '{keys[2]}' # " + "w " * 600),
        row("owner/r0", "a.cob", f"IDENTIFICATION DIVISION.\n* {keys[3]}\n"),
        row("owner/r1", "near.py", f"token = '{keys[4]}'\n" + code("r0m1")),
        row("owner/r1", f"{keys[5]}.py", code("path")),
        row("owner/r1", f"{keys[6]}.unheard", code("unheard")),
        row("owner/r2", "nul.py", f"{keys[7]}\0"),
        row("owner/r2", "id_rsa.py", f'KEY = """{long}"""\n' + code("rsa", 10)),  # goes as encoded data
        row("owner/r2", "id_ec.py", f'KEY = """{short}"""\n' + code("ec")),
    ]
    source = tmp_path / "rows"
    source.mkdir()
    (source / "0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + f"{{broken {keys[8]}\n")
    work = tmp_path / "work"
    work.mkdir()
    build(CorpusSettings(sources=(FolderSource(name="rows", path=source),), heldout_fraction=0.3, workers=1), 1, work)
    written, said = everything(work), "".join(capfd.readouterr())
    for secret in (*keys, *long.split("\n")[1:-1], *short.split("\n")[1:-1]):
        assert secret.encode() not in written and secret not in said
    summary = json.loads((work / "summary.json").read_text())
    assert {"says it is generated", "long lines", "other language", "near duplicate", "holds NUL bytes", "malformed row", "encoded data"} <= summary[
        "drops"
    ].keys()
    # Equal but for their names and the key: the six that are kept, the one in a path, the short PEM block, and near.py, which is longer than m1.py.
    assert summary["redactions"] == {"<KEY>": {"Python": 9}} and summary["redacted_kinds"] == {"github-pat": 8, "private-key": 1}
    documents = [*read_documents(work / "standard"), *read_documents(work / "heldout")]
    assert sum("token = '<KEY>'" in d["text"] for d in documents) == 7
    assert [d["id"] for d in documents if d["path"] == "<KEY>.py"] == ["rows/owner/r1/<KEY>.py"]


class Fragile(JudgeStep):
    """Fails on every document, with the text in a variable and in the error."""

    name = "fragile"

    def judge(self, document: Document) -> str | None:
        text = document.text
        raise ValueError(text)


def test_a_failing_step_tells_no_secret_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = made_up("Slack bot token", 5)
    write_task(tmp_path / "in", 0, {"a.py": f"token = '{key}'\n".encode()})
    spool = tmp_path / "spool"
    spool.mkdir()
    settings, funnel = CorpusSettings(), Funnel(Redactor(RedactionSettings()).shown)
    run_steps([ReadStep(tmp_path / "in", settings, funnel), Fragile(settings, funnel), SpoolStep(spool, settings, funnel)], 1, 1, tmp_path / "logs", "test")
    written = everything(tmp_path / "logs") + everything(spool) + "".join(capfd.readouterr()).encode()
    assert b"quarantined, ValueError" in written and b"token = '<KEY>'" in written
    assert key.encode() not in written
