"""A file's sections: at most TOP, MIDDLE and BOTTOM, in encoder tokens (paper section 2.3: a file's score is the mean over them).

Every section of a file longer than one section is exactly full, so that nearly nothing of a batch is padding; the three overlap
where the file is shorter than three. A file of up to two sections has TOP and BOTTOM only, one of up to one section is itself.
"""

from __future__ import annotations

SLICE_CHARACTERS = 8  # characters cut per token of a section: twice what WordPiece makes of code (3.3 to 4 with indentation; ours, measured)


def windows(length: int, section: int) -> list[tuple[int, int]]:
    """Bounds (first, end) of the sections of ``length`` tokens: TOP, MIDDLE, BOTTOM, as many as are distinct.

    >>> windows(10, 16), windows(20, 16), windows(100, 16)
    ([(0, 10)], [(0, 16), (4, 20)], [(0, 16), (42, 58), (84, 100)])
    """
    if length <= section:
        return [(0, length)]
    bottom = (length - section, length)
    if length <= 2 * section:
        return [(0, section), bottom]
    middle = (length - section) // 2
    return [(0, section), (middle, middle + section), bottom]


def slices(text: str, section: int) -> list[str]:
    """The text itself, or its first, middle and last ``8 * section`` characters where it is longer than the three together.

    Tokenising stays cheap for any file: a 100 MB line costs what a 10 kB file does.
    """
    width = SLICE_CHARACTERS * section
    if len(text) <= 3 * width:
        return [text]
    middle = (len(text) - width) // 2
    return [text[:width], text[middle : middle + width], text[-width:]]


def from_slices(tokens: list[list[int]], section: int) -> list[list[int]]:
    """Sections out of the tokens of each of a text's ``slices``."""
    if len(tokens) == 1:
        return [tokens[0][first:end] for first, end in windows(len(tokens[0]), section)]
    top, middle, bottom = tokens
    start = max(0, (len(middle) - section) // 2)
    return [top[:section], middle[start : start + section], bottom[-section:]]
