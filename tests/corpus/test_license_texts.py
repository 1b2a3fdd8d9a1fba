"""Licences told from the texts of licence files and the tops of source files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from megatron_snow.corpus.license_texts import UNKNOWN, files_license, header_license, is_license_file, text_licenses

MIT = """Copyright (c) 2019 Jane Roe

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
APACHE = """Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
"""
GPL = """This program is free software; you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation; either version 2 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU General Public License for more details.
"""
ISC = """Permission to use, copy, modify, and distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
"""
CODE = "\n\nint add(int left, int right) {\n    return left + right;\n}\n" * 40


def commented(text: str, mark: str) -> str:
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in text.split("\n"))


@pytest.mark.parametrize("mark", ["#", "//", " *", "--", ";;", "%"])
@pytest.mark.parametrize(("text", "spdx"), [(MIT, "MIT"), (APACHE, "Apache-2.0"), (GPL, "GPL-2.0-or-later"), (ISC, "ISC")])
def test_notices_in_comments(text: str, spdx: str, mark: str) -> None:
    assert header_license(commented("tool.c -- does things\nCopyright 2001-2020 Jane Roe. All rights reserved.\n\n" + text, mark) + CODE) == spdx


@pytest.mark.parametrize(
    ("head", "spdx"),
    [
        ("// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note\n", "GPL-2.0-only WITH Linux-syscall-note"),
        ("/* SPDX-License-Identifier: (MIT OR Apache-2.0) */\n", "(MIT OR Apache-2.0)"),
        ("<!-- SPDX-License-Identifier: ISC -->\n", "ISC"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause\n", "MIT AND (GPL-2.0-only OR BSD-3-Clause)"),
        ("# SPDX-License-Identifier: MIT\n# Licensed under the GPL version 3.\n", "MIT"),
        ("// Licensed under the MIT license (http://www.opensource.org/licenses/mit-license.php)\n", "MIT"),
        ("# License: BSD-3-Clause\n", "BSD-3-Clause"),
        ("/* Released under the GNU GPL, version 2. */\n", "GPL-2.0-only"),
        ("// Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.\n", ""),
        ("# see https://www.gnu.org/licenses/gpl-3.0.html for how licences read\n", ""),
        ("import license\n\ndef licensed(user):\n    return license.check(user)\n", ""),
        ("# nothing said\n", ""),
        ("\n" * 7_000 + "# SPDX-License-Identifier: MIT\n", ""),
    ],
)
def test_statements_at_the_top(head: str, spdx: str) -> None:
    assert header_license(head + CODE) == spdx


def test_licence_files_by_name() -> None:
    for name in (
        "LICENSE",
        "LICENSE.txt",
        "license.md",
        "LICENCE",
        "COPYING",
        "COPYING.LESSER",
        "UNLICENSE",
        "LICENSE-MIT",
        "COPYRIGHT",
        "LICENSES/MIT.txt",
        "MIT-LICENSE",
        "license/LICENSE.txt",
    ):
        assert is_license_file(name), name
    for name in ("license.py", "src/LICENSE", "LICENSES/a/b.txt", "licensing.md", "README", "license_check.go", "copying.c", "mit-license.rb"):
        assert not is_license_file(name), name


def test_several_files_and_several_licences_in_one() -> None:
    apache = next(
        Path(str(file.locate())).read_text() for file in importlib.metadata.files("datatrove") or () if file.name == "LICENSE" and ".dist-info" in str(file)
    )
    assert text_licenses(apache) == ["Apache-2.0"]
    assert files_license([]) == ""
    assert files_license([("LICENSE", MIT)]) == "MIT"
    assert files_license([("LICENSE-APACHE", apache), ("LICENSE-MIT", MIT)]) == "Apache-2.0 OR MIT"
    assert files_license([("LICENSE", apache), ("COPYING", MIT)]) == "MIT AND Apache-2.0"
    assert files_license([("LICENSE", MIT + "\n\n" + apache)]) == "MIT AND Apache-2.0"
    assert files_license([("LICENSE", "All rights reserved. Ask before you copy anything.")]) == UNKNOWN
    assert files_license([("LICENSE", MIT), ("COPYRIGHT", "Copyright 2019 Jane Roe and others")]) == "MIT"
