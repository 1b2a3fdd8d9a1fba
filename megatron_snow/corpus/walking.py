"""The files below a folder, and the links there that lead to no file: they are not followed, and never passed over in silence.

A link to a folder may lead back to where it stands. One that leads nowhere is data that is gone: Hugging Face's cache is links to blobs.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NoReturn

from megatron_snow.artifacts.errors import SnowError

LINKED_FOLDERS = "linked folders not followed"
DEAD_LINKS = "links that lead to no file"


def files_below(path: Path) -> tuple[list[Path], dict[str, int]]:
    """The files, sorted, ``path`` itself if it is one; and how many links are not among them, of which kind (kinds without any left out).

    Raises SnowError where a folder cannot be read.
    """
    if path.is_file():
        return [path], {}
    found: list[Path] = []
    skipped: Counter[str] = Counter()
    for folder, names, files in os.walk(path, onerror=_refuse):
        skipped[LINKED_FOLDERS] += sum(os.path.islink(os.path.join(folder, name)) for name in names)
        for name in files:
            file = Path(folder, name)
            if file.is_file():
                found.append(file)
            elif file.is_symlink():
                skipped[DEAD_LINKS] += 1
    return sorted(found), {what: count for what, count in skipped.items() if count}


def _refuse(error: OSError) -> NoReturn:
    raise SnowError(f"the folder {error.filename} cannot be read ({error.strerror}); mend its permissions or take it out of corpus.sources") from error
