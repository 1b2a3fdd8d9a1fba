"""The page in a real browser, where one is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from megatron_snow.report import build
from tests.report.small_road import RECIPE, small_road

_BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(_BROWSER is None, reason="no Chromium on this machine (chromium or google-chrome on the PATH)")

# The page stands in a frame of phone or desktop width: headless windows cannot be made as narrow as a phone everywhere. The
# frame's own policy keeps its scripts off; ours measures it from outside.
_HARNESS = """<!doctype html><title>harness</title><iframe id="frame" style="border:0" width="{width}" height="2000" srcdoc="{page}"></iframe>
<pre id="result">waiting</pre><script>
document.getElementById("frame").addEventListener("load", (event) => {{
  const page = event.target.contentDocument, root = page.documentElement, view = event.target.contentWindow;
  page.querySelectorAll("details").forEach((one) => one.open = true);
  const clips = (node) => ["auto", "hidden", "scroll"].includes(view.getComputedStyle(node).overflowX);
  const scrolls = (node) => node && node !== root && (clips(node) || scrolls(node.parentElement));
  const sticksOut = (node) => node.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(node.parentElement);
  const wide = [...page.body.querySelectorAll("*")].filter(sticksOut);
  const unnamed = [...page.querySelectorAll("figure")].filter((node) => !node.querySelector("figcaption")?.innerText.trim())
    .concat([...page.querySelectorAll("svg:not([aria-hidden])")].filter((node) => node.getAttribute("role") !== "img" || !node.getAttribute("aria-label")));
  const silent = [...page.querySelectorAll("[tabindex]")].filter((node) => !node.getAttribute("role") || !node.getAttribute("aria-label"));
  const lost = [...page.querySelectorAll("a[href^='#']")].filter((node) => !page.getElementById(node.getAttribute("href").slice(1)));
  const cut = [...page.querySelectorAll("svg[role=img] text")].filter((node) => {{
    const box = node.getBBox(), view = node.ownerSVGElement.viewBox.baseVal;
    return box.x < -1 || box.x + box.width > view.width + 1 || box.y < -1 || box.y + box.height > view.height + 4;
  }});
  const touching = [...page.querySelectorAll("svg[role=img]")].flatMap((drawing) => {{
    const boxes = [...drawing.querySelectorAll("text")].map((node) => [node.textContent, node.getBBox()]);
    return boxes.flatMap(([one, a], index) => boxes.slice(index + 1)
      .filter(([_, b]) => a.x + a.width > b.x + 0.5 && b.x + b.width > a.x + 0.5 && a.y + a.height > b.y + 3.5 && b.y + b.height > a.y + 3.5)
      .map(([other, _]) => `${{drawing.getAttribute("aria-label")}}: ${{one}} / ${{other}}`));
  }});
  const small = [...page.querySelectorAll("svg text")].map((node) => parseFloat(view.getComputedStyle(node).fontSize) * node.getScreenCTM().a);
  document.getElementById("result").textContent = JSON.stringify({{
    title: page.title, scripts: page.scripts.length, width: root.scrollWidth, client: root.clientWidth,
    unnamed: unnamed.length + silent.length, lost: lost.length, cut: cut.slice(0, 5).map((node) => node.textContent), touching: touching.slice(0, 5),
    figures: page.querySelectorAll("figure").length, headings: [...page.querySelectorAll("h1, h2, h3")].map((node) => node.tagName).join(" "),
    wide: wide.slice(0, 5).map((node) => node.outerHTML.slice(0, 120)), smallest: Math.min(...small), largest: Math.max(...small),
    plots: page.querySelectorAll("svg").length, background: view.getComputedStyle(page.body).backgroundColor,
    line: view.getComputedStyle(page.querySelector("path.c1")).stroke, text: view.getComputedStyle(page.querySelector("svg text")).fill,
  }});
}});</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    work = tmp_path_factory.mktemp("report")
    build(small_road(tmp_path_factory.mktemp("road")), RECIPE, work)
    return (work / "report.html").read_text(encoding="utf-8")


def _open(folder: Path, markup: str, dark: bool = False) -> tuple[str, str]:
    """Load a page; returns its document after scripts have run, and what the browser said."""
    path = folder / "page.html"
    folder.mkdir(exist_ok=True)
    path.write_text(markup, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    flags += [
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=10000",
    ]
    assert _BROWSER is not None
    environment = {**os.environ, "HOME": str(folder)}
    ran = subprocess.run([_BROWSER, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True, env=environment)
    return ran.stdout, ran.stderr


def _measure(folder: Path, page: str, width: int, dark: bool = False) -> dict:
    document, _ = _open(folder, _HARNESS.format(width=width, page=escape(page)), dark)
    found = re.search(r'<pre id="result">(.*?)</pre>', document, re.DOTALL)
    assert found is not None and found[1] != "waiting"
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_and_labels_can_be_read(page: str, width: int, tmp_path: Path) -> None:
    found = _measure(tmp_path, page, width)
    assert found["title"] == "small: megatron_snow report" and found["scripts"] == 0
    assert found["width"] <= found["client"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["plots"] >= 10 and found["smallest"] >= 8.5 and found["largest"] <= 18  # CSS pixels; below that labels are a guess, above it they shout
    assert found["figures"] >= 10 and found["unnamed"] == 0 and found["lost"] == 0
    assert found["cut"] == [] and found["touching"] == []  # labels lie on their drawing and on no other label
    assert found["headings"].startswith("H1 H2") and found["headings"].count("H1") == 1


def test_dark_mode_changes_page_and_plots(page: str, tmp_path: Path) -> None:
    light, dark = _measure(tmp_path / "light", page, 390), _measure(tmp_path / "dark", page, 390, dark=True)
    for colour in ("background", "line", "text"):
        assert light[colour] != dark[colour], colour


def test_the_browser_has_nothing_to_complain_about(page: str, tmp_path: Path) -> None:
    _, said = _open(tmp_path, page)
    assert [line for line in said.splitlines() if "CONSOLE" in line] == []


def test_the_console_is_heard(tmp_path: Path) -> None:
    """The test before this one can fail."""
    _, said = _open(tmp_path, "<!doctype html><script>console.error('heard')</script>")
    assert [line for line in said.splitlines() if "CONSOLE" in line and "heard" in line]
