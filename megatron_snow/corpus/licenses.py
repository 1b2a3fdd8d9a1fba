"""SPDX licence of an installed distribution, from its metadata; "" rather than a guess.

``License-Expression`` (PEP 639) is SPDX already. Before it, trove classifiers and the free text of ``License`` are all
there is: only values that name one licence without doubt are mapped ("BSD License" could be three of them).
"""

from __future__ import annotations

import re
from email.message import Message

_PREFIX = "License :: OSI Approved :: "
_CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
}
_TEXTS = {
    "Apache-2.0": ("apache-2.0", "apache 2.0", "apache 2", "apache license 2.0", "apache license, version 2.0", "apache license version 2.0"),
    "MIT": ("mit", "mit license", "the mit license", "the mit license (mit)", "expat"),
    "BSD-2-Clause": ("bsd-2-clause", "bsd 2-clause", "bsd 2-clause license", "2-clause bsd", "simplified bsd"),
    "BSD-3-Clause": ("bsd-3-clause", "bsd 3-clause", "bsd 3-clause license", "3-clause bsd", "3-clause bsd license", "new bsd", "modified bsd"),
    "ISC": ("isc", "isc license"),
    "MPL-2.0": ("mpl-2.0", "mpl 2.0", "mozilla public license 2.0", "mozilla public license 2.0 (mpl 2.0)"),
    "PSF-2.0": ("psf-2.0", "psfl", "psf license", "python software foundation license"),
    "Unlicense": ("unlicense", "the unlicense"),
    "Zlib": ("zlib",),
    "0BSD": ("0bsd",),
    "MIT-0": ("mit-0",),
    "HPND": ("hpnd",),
}
_BY_TEXT = {text: spdx for spdx, texts in _TEXTS.items() for text in texts}
_EXPRESSION = re.compile(r"[A-Za-z0-9.+:() -]{2,200}")


def distribution_license(metadata: Message) -> str:
    """The SPDX expression a distribution states, or "" where it states none or none that can be mapped without doubt."""
    expression = " ".join((metadata.get("License-Expression") or "").split())
    if expression and _EXPRESSION.fullmatch(expression):
        return expression
    stated = [c.removeprefix(_PREFIX) for c in metadata.get_all("Classifier") or [] if c.startswith(_PREFIX)]
    text = _BY_TEXT.get(" ".join((metadata.get("License") or "").lower().split()), "")
    if len(stated) == 1 and stated[0] in _CLASSIFIERS:
        return _CLASSIFIERS[stated[0]]
    # Two classifiers may mean "and" or "or", and an unmapped one is ambiguous: then only an exact text decides, if it does not contradict.
    return text if len(stated) <= 1 else ""
