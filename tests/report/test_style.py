"""The style sheet's colours against WCAG 2.1's contrast and against colour-blindness, in light and dark mode."""

from __future__ import annotations

import importlib.resources
import re
from itertools import combinations

import numpy as np
import pytest

_STYLE = importlib.resources.files("megatron_snow.report").joinpath("style.css").read_text(encoding="utf-8")
_ROOTS = re.findall(r":root \{(.*?)\}", _STYLE, re.DOTALL)
_MODES = {"light": _ROOTS[0], "dark": _ROOTS[1]}
# Machado, Oliveira, Fernandes 2009, severity 1: what linear RGB looks like to those who lack a kind of cone.
_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _colours(mode: str) -> dict[str, np.ndarray]:
    """Name -> linear RGB (IEC 61966-2-1)."""
    found = {}
    for name, value in re.findall(r"--(\w+): #([0-9a-f]{6})", _MODES[mode]):
        encoded = np.array([int(value[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        found[name] = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return found


def _contrast(one: np.ndarray, other: np.ndarray) -> float:
    """WCAG 2.1's contrast ratio."""
    darker, lighter = sorted(float(colour @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65."""
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]) @ np.clip(linear, 0, 1)
    scaled = xyz / [0.95047, 1.0, 1.08883]
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("mode", _MODES)
def test_text_stands_out_as_wcag_aa_asks(mode: str) -> None:
    colours = _colours(mode)
    for ground in ("page", "card", "tint"):
        for text in ("ink", "soft", "warn"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for text in ("s1", "s2", "s3"):  # links, changed settings, what a model wrote
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("mode", _MODES)
def test_text_stands_out_on_the_strongest_heat(mode: str) -> None:
    """A heated cell mixes up to 55 % of s2 into the page, in the encoded values (color-mix in srgb)."""
    colours = _colours(mode)

    def encode(linear: np.ndarray) -> np.ndarray:
        return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.clip(linear, 0, 1) ** (1 / 2.4) - 0.055)

    (share,) = re.findall(r"color-mix\(in srgb, var\(--s2\) calc\(var\(--heat\) \* ([.\d]+)\)", _STYLE)
    mixed = encode(colours["s2"]) * float(share) + encode(colours["page"]) * (1 - float(share))
    linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    assert _contrast(colours["ink"], linear) >= 4.5


@pytest.mark.parametrize("mode", _MODES)
def test_lines_and_marks_stand_out_as_wcag_asks_of_graphics(mode: str) -> None:
    colours = _colours(mode)
    for ground in ("card", "page"):
        for index in range(9):
            assert _contrast(colours[f"s{index}"], colours[ground]) >= 3.0, (index, ground)


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("blindness", _BLIND)
def test_the_first_colours_differ_for_the_colour_blind(mode: str, blindness: str) -> None:
    """At least ten steps of CIE 1976 (one is just noticeable side by side); lines differ in pattern and mark besides."""
    colours = _colours(mode)
    seen = {index: _lab(np.array(_BLIND[blindness]) @ colours[f"s{index}"]) for index in range(1, 5)}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 10, (one, other)


def test_every_colour_is_a_pattern_too() -> None:
    patterns = dict(re.findall(r"\.k(\d) \{ stroke-dasharray: ([\d ]+); \}", _STYLE))
    assert sorted(patterns) == [str(index) for index in range(2, 9)]  # the first is solid
    assert len(set(patterns.values())) == len(patterns)
