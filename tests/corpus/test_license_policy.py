"""Which expressions let a file in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build
from megatron_snow.corpus.license_policy import Policy, categories, check_licenses
from megatron_snow.corpus.settings import CorpusSettings, FolderSource, LicenseSettings
from tests.corpus.test_build import code, row


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("MIT", "allowed"),
        ("PSF-2.0", "allowed"),
        ("CC0-1.0", "allowed"),
        ("GPL-3.0-only", "licence not allowed"),
        ("gpl-2.0", "licence not allowed"),  # deprecated, in lower case
        ("MPL-2.0", "licence not allowed"),
        ("MIT AND GPL-2.0-only", "licence not allowed"),
        ("MIT OR GPL-2.0-only", "allowed"),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", "allowed"),
        ("(MIT AND MPL-2.0) OR LGPL-2.1-only", "licence not allowed"),
        ("Apache-2.0 WITH LLVM-exception", "allowed"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "licence not allowed"),
        ("LicenseRef-unknown", "licence unknown"),
        ("LicenseRef-ours OR MIT", "allowed"),
        ("LicenseRef-ours AND MIT", "licence unknown"),
        ("LicenseRef-ours AND GPL-3.0-only", "licence not allowed"),
        ("see the file", "licence unknown"),
        ("MIT AND", "licence unknown"),
        ("", "allowed"),
    ],
)
def test_verdicts(expression: str, verdict: str) -> None:
    assert Policy(LicenseSettings()).verdict(expression) == verdict


def test_settings_decide() -> None:
    assert Policy(LicenseSettings(none_stated="drop")).verdict("") == "no licence stated"
    assert Policy(LicenseSettings(unknown="keep")).verdict("LicenseRef-ours") == "allowed"
    assert Policy(LicenseSettings(allowed=("MPL-2.0", "MIT"))).verdict("mpl-2.0") == "allowed"
    assert Policy(LicenseSettings(allowed=("MIT",))).verdict("ISC") == "licence not allowed"
    assert Policy(LicenseSettings(refused=("WTFPL",))).verdict("WTFPL") == "licence not allowed"
    assert Policy(LicenseSettings(allowed=("Permissive", "Copyleft Limited"))).verdict("LGPL-2.1-only") == "allowed"
    check_licenses(LicenseSettings(allowed=("Permissive", "GPL-3.0-only"), refused=("json",)))
    with pytest.raises(SnowError, match=r"corpus\.licenses\.allowed: no licence or category of licences is called 'Permisive'; did you mean 'permissive'"):
        check_licenses(LicenseSettings(allowed=("Permisive",)))
    with pytest.raises(SnowError, match=r"refused: no licence .* 'Klingon'"):
        check_licenses(LicenseSettings(refused=("Klingon",)))


def test_the_database_knows_the_common_ones() -> None:
    """Categories as the Open Source Initiative's and the FSF's lists have these licences, in general."""
    for spdx in ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "BSL-1.0", "PostgreSQL", "NCSA", "HPND", "Python-2.0"):
        assert categories()[spdx.lower()] == "Permissive", spdx
    for spdx in ("GPL-2.0-only", "GPL-3.0-or-later", "AGPL-3.0-only"):
        assert categories()[spdx.lower()] == "Copyleft", spdx


def test_the_arrow_keeps_what_is_permitted_and_counts_the_rest(tmp_path: Path) -> None:
    """A header goes before the repository's licence, both ways."""
    rows = [row(f"owner/r{r}", f"m{i}.py", code(f"r{r}m{i}")) for r in range(4) for i in range(2)]
    rows += [
        row("owner/gpl", "a.py", code("a"), max_stars_repo_licenses=["GPL-3.0-only"]),
        row("owner/gpl", "free.py", "# SPDX-License-Identifier: ISC\n" + code("free"), max_stars_repo_licenses=["GPL-3.0-only"]),
        row("owner/r0", "copied.py", "# SPDX-License-Identifier: GPL-2.0-or-later\n" + code("copied")),
        row("owner/r1", "odd.py", code("odd"), max_stars_repo_licenses=["LicenseRef-odd"]),
        row("owner/r2", "none.py", code("none"), max_stars_repo_licenses=[]),
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    work = tmp_path / "work"
    work.mkdir()
    build(CorpusSettings(sources=(FolderSource(name="rows", path=tmp_path / "rows.jsonl"),), heldout_fraction=0.3, workers=1), 1, work)
    summary = json.loads((work / "summary.json").read_text())
    assert summary["drops"] == {"licence not allowed": {"Python": 2}, "licence unknown": {"Python": 1}}
    assert summary["refused_licenses"] == {"GPL-3.0-only": 1, "GPL-2.0-or-later": 1, "LicenseRef-odd": 1}
    kept = {d["path"]: d["license"] for side in ("standard", "heldout") for d in read_documents(work / side)}
    assert kept["free.py"] == "ISC" and kept["none.py"] == "" and kept["m0.py"] == "MIT"
    assert summary["licenses"] == {"MIT": 8, "ISC": 1, "none stated": 1}
