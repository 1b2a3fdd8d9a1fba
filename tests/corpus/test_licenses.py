"""Licences of distributions: mapped where there is no doubt, empty otherwise."""

from __future__ import annotations

from email.message import Message

import pytest

from megatron_snow.corpus.licenses import distribution_license

OSI = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("expression", "text", "classifiers", "spdx"),
    [
        ("MIT OR Apache-2.0", "", [], "MIT OR Apache-2.0"),
        ("BSD-3-Clause", "MIT", [OSI + "MIT License"], "BSD-3-Clause"),
        ("", "", [OSI + "MIT License"], "MIT"),
        ("", "BSD 3-Clause", [OSI + "BSD License"], "BSD-3-Clause"),
        ("", "", [OSI + "BSD License"], ""),  # two or three clauses
        ("", "Apache License 2.0", [], "Apache-2.0"),
        ("", "Apache 2.0", [OSI + "Apache Software License"], "Apache-2.0"),
        ("", "", [OSI + "Apache Software License"], ""),  # 1.1 or 2.0
        ("", "Dual License", [OSI + "Apache Software License", OSI + "BSD License"], ""),
        ("", "MIT", [OSI + "MIT License", OSI + "Apache Software License"], ""),  # and, or?
        ("", "Copyright (c) me. All rights reserved.", [], ""),
        ("", "", [], ""),
        ("MIT; see LICENSE", "", [], ""),
    ],
)
def test_mapping(expression: str, text: str, classifiers: list[str], spdx: str) -> None:
    metadata = Message()
    if expression:
        metadata["License-Expression"] = expression
    if text:
        metadata["License"] = text
    for classifier in classifiers:
        metadata["Classifier"] = classifier
    assert distribution_license(metadata) == spdx
