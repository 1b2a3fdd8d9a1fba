from __future__ import annotations

import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.report import build
from megatron_snow.report.html import visible
from tests.report.small_road import HOSTILE, LONG, PHASES, RECIPE, small_road

_VOID = {"meta", "link", "br"}


class _Page(HTMLParser):
    """A page as a parser sees it: that elements nest, which there are, their attributes, the text of each section."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {}
        self.curves: Counter[str] = Counter()
        """Drawing's name -> its lines."""
        self._drawing = ""
        self._open: list[tuple[str, str | None]] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names[name] += 1
        if name == "svg":
            self._drawing = dict(attributes).get("aria-label") or ""
        elif name == "path" and self._drawing and (dict(attributes).get("class") or "").startswith("line c"):
            self.curves[self._drawing] += 1
        self.attributes += [(name, key, value or "") for key, value in attributes]
        if name not in _VOID:
            self._open.append((name, dict(attributes).get("id") if name == "section" else None))

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop()[0] == name

    def handle_data(self, data: str) -> None:
        for _, section in self._open:
            if section:
                self.sections[section] = self.sections.get(section, "") + data + " "


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_road(tmp_path_factory.mktemp("road"))


@pytest.fixture
def own_road(tmp_path: Path) -> dict[str, Path]:
    """A road of its own for a test that damages it."""
    return small_road(tmp_path / "road")


def _build(road: dict[str, Path], work: Path) -> str:
    work.mkdir(exist_ok=True)
    counts = build(road, RECIPE, work)
    data = (work / "report.html").read_bytes()
    assert counts["bytes"] == len(data)
    return data.decode()


@pytest.fixture(scope="module")
def markup(road: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return _build(road, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(markup: str) -> _Page:
    return _Page(markup)


def test_text_of_the_corpus_never_becomes_an_element(markup: str, page: _Page) -> None:
    # HOSTILE stands in documents, snippets, ids, licences, model names and completions of the small road.
    assert not page.names.keys() & {"script", "img", "u"}
    assert "<script" not in markup and "onerror=alert" in markup
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    for section in ("corpus", "tiers", "annotator", "synthetic", "completions"):
        assert visible(HOSTILE).split("\n")[0] in page.sections[section], section


def test_invisible_characters_are_shown(markup: str) -> None:
    assert "\u202e" not in markup and "\x00" not in markup and "⟨U+202E⟩" in markup


def test_the_page_asks_for_nothing(page: _Page) -> None:
    targets = [value for _, key, value in page.attributes if key in ("href", "src", "srcset", "action", "data", "poster")]
    assert targets and all(target.startswith(("#", "data:,")) for target in targets)
    policy = next(value for name, key, value in page.attributes if name == "meta" and key == "content" and "default-src" in value)
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert not page.names.keys() & {"script", "iframe", "object", "embed", "img", "form", "base"}


def test_the_style_sheet_asks_for_nothing(markup: str) -> None:
    style = markup[markup.index("<style>") : markup.index("</style>")]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_links_lead_somewhere(page: _Page) -> None:
    anchors = [value for _, key, value in page.attributes if key == "id"]
    assert len(anchors) == len(set(anchors))
    assert {value[1:] for name, key, value in page.attributes if name == "a" and key == "href"} == set(anchors)


def test_every_section_has_what_the_artefacts_say(page: _Page) -> None:
    expected = {
        "road": ["train enhanced", "files", "trains on synthetic 0.7 + standard 0.3"],
        "corpus": [
            "100 of 160 files stay (62 %)",
            "near duplicate",
            "40 (25 %)",
            "<b>odd</b>",
            f"largest cluster is x/<u>{LONG} with 30 copies",
            "sample dropped C++ 0",
            "sample kept Shell 1",
            "<EMAIL> Python 12, C++ 3 15",
            "github-pat 2",
            "GPL-3.0-only 1,200",
            "looked for 314 texts of the benchmarks named below and found 20 of them",
            "humaneval HumanEval/0 docstring (2 files); HumanEval/1 solution (1 file); ",
            "; 8 more 313 20 mbpp+ none 1 0",
            "Taken down: 3 files of 1 repository. 1 name of the take-down list matched no file: owner/</code></pre><script.",
        ],
        "tiers": ["standard 30,000 tokens", "Apache-2.0", "<i>LicenseRef</i>", "Languages, share of tokens"],
        "annotator": [
            "0.910 (± 0.020, n = 90 + 110)",
            "stands in for the paper's 220k",
            "0.880",
            "score 0.900",
            "cut 0.74",
            "calibrated (platt)",
            "own heads for Python",
            "Mean distance 0.034",
            "The head of epoch 3 is kept",
            "hard negatives added",
        ],
        "synthetic": [
            "6 of 18 answers of SmolLM2<135M> became files (33 %)",
            "does not parse",
            "unanswered",
            "its seed's file",
            "line 3: <i>invalid</i> syntax",
            "1.50 of money spent",
            "topics<b> 6 2 33 %",
            "ran 1 25 %",
            "2.5 problems in 100 lines",
            "</td><script>, sort 75 %",
            "effective number of topics 1.7",
            "<b>os</b> 50 %",
            "25 % 20 % 50 %",
        ],
        "warnings": ["little is new", "45% of a synthetic document's", "forgetting"],
        "training": [
            "2.294M tokens in 280 steps over 3 phases",
            "of its language alone; 1 language with less text only in validation.jsonl",
            "general",
            "continued",
            "enhanced",
            "high quality",
            "1.50",
        ],
        "evaluation": [
            "2.130 bits per byte (down from 2.310 after general)",
            "0.6 % (1 of 164; 95 % interval 0.1 to 3.4 %)",
            "28.0 (21.7 to 35.4)",
            "Not comparable",
            "humaneval+ pass@1 8.5 (6.8 to 10.2) 12.2 (9.8 to 14.6) 18.9 (15.1 to 22.7) 164",
            "humaneval+ pass@1, base tests alone 11.6",
            "time <b>out",
            "synthetic <i>Python 1.900 1.690 1.720",
            "ROC-AUC 0.910",
        ],
        "completions": ["after enhanced", "def read_lines(path):"],
        "settings": ["heldout_fraction: 0.1", "# default 0.005", "python", "megatron_snow", "seed: 7"],
    }
    for section, texts in expected.items():
        words = " ".join(page.sections[section].split())
        for text in texts:
            assert text in words, (section, text)


def test_plots_are_labelled_and_take_their_colours_from_the_style_sheet(markup: str, page: _Page) -> None:
    assert page.names["svg"] >= 10
    labels = [value for name, key, value in page.attributes if name == "svg" and key == "aria-label"]
    keys = [value for name, key, value in page.attributes if name == "svg" and key == "aria-hidden"]  # of legends, beside their names
    assert len(labels) + len(keys) == page.names["svg"] and all(labels) and len(set(labels)) == len(labels)
    assert page.names["figure"] == page.names["figcaption"]
    assert not [(name, key) for name, key, _ in page.attributes if name in ("path", "rect", "line", "circle", "text") and key in ("fill", "stroke")]


def test_curves_hold_every_phase_tier_and_language(page: _Page) -> None:
    phases = len(PHASES)
    expected = {"training loss, nats a token over tokens": 2 * phases, "learning rate over tokens": phases, "gradient norm before clipping over tokens": phases,
                "tokens a second over tokens": phases, "validation loss by tier over tokens": 4, "share of files with at most so many lines, by tier": 4,
                "held-out bits per byte by language over tokens": 4, "held-out loss by language over tokens": 8,
                "ROC curve, area 0.910": 2, "calibration of the annotator, mean error 0.034": 6,
                "loss of the head by epoch": 2, "loss on held-out code less loss on high-quality files over tokens": 1,
                "scores of all files": 1, "share of word n-grams that are distinct": 3, "cosine to the nearest document": 3}  # fmt: skip
    assert page.curves == expected


def test_the_same_road_gives_the_same_bytes(road: dict[str, Path], tmp_path: Path) -> None:
    assert _build(road, tmp_path / "a") == _build(road, tmp_path / "b")


def test_the_page_names_no_path_of_this_machine(markup: str, road: dict[str, Path]) -> None:
    assert str(road["corpus"].parent) not in markup and str(Path.home()) + "/" not in markup


@pytest.mark.parametrize("stage", ["corpus", "annotate", "synthesize", "tokenize"])
def test_a_stage_that_is_not_there_is_said_to_be_missing(stage: str, road: dict[str, Path], tmp_path: Path) -> None:
    page = _Page(_build({name: folder for name, folder in road.items() if name != stage}, tmp_path))
    assert f"no '{stage}' stage" in " ".join(page.sections.values()) or stage == "tokenize"
    assert set(page.sections) == {
        "warnings",
        "road",
        "corpus",
        "tiers",
        "annotator",
        "synthetic",
        "training",
        "signatures",
        "evaluation",
        "completions",
        "settings",
    }


def test_an_empty_road_is_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    page = _Page(_build({}, tmp_path))
    for stage in ("corpus", "annotate", "synthesize", "train", "evaluate"):
        assert f"no '{stage}' stage" in " ".join(page.sections.values())


def test_files_an_artefact_lacks_are_said_to_be_missing(own_road: dict[str, Path], tmp_path: Path) -> None:
    for path in [
        *own_road["corpus"].parent.rglob("summary.json"),
        *own_road["corpus"].parent.rglob("*.jsonl"),
        *own_road["corpus"].parent.rglob("results.json"),
    ]:
        path.unlink()
    for tier in ("standard", "heldout"):
        shutil.rmtree(own_road["corpus"] / tier)
    text = " ".join(_Page(_build(own_road, tmp_path / "report")).sections.values())
    for missing in (
        "No funnel.",
        "No summary of the annotator.",
        "No summary of the answers.",
        "No training curves.",
        "No results.",
        "No completions.",
        "No standard tier.",
    ):
        assert missing in text, missing


@pytest.mark.parametrize(
    ("stage", "file", "content"),
    [
        ("corpus", "summary.json", "{"),
        ("corpus", "summary.json", json.dumps({"in": 3})),
        ("annotate", "summary.json", "[]"),
        ("synthesize", "summary.json", json.dumps({"requests": "many"})),
        ("tokenize", "summary.json", "null"),
        ("train general", "metrics.jsonl", '{"step": 1, "tokens": 10}\n{"step": 2, "tok'),
        ("train general", "validation.jsonl", '{"step": 1}\n'),
        ("evaluate enhanced", "results.json", "not JSON"),
    ],
)
def test_a_damaged_file_is_named(stage: str, file: str, content: str, own_road: dict[str, Path], tmp_path: Path) -> None:
    (own_road[stage] / file).write_text(content)
    with pytest.raises(SnowError, match=f"{file}.* is damaged .*; delete .* and run again"):
        build(own_road, RECIPE, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_histogram_whose_counts_do_not_fit_is_damaged(own_road: dict[str, Path], tmp_path: Path) -> None:
    path = own_road["annotate"] / "summary.json"
    summary = json.loads(path.read_text())
    summary["histogram"]["edges"].pop()
    path.write_text(json.dumps(summary))
    with pytest.raises(SnowError, match="edges do not fit"):
        build(own_road, RECIPE, tmp_path)


def test_a_folder_without_a_manifest_is_not_an_artefact(own_road: dict[str, Path], tmp_path: Path) -> None:
    (own_road["train general"] / "manifest.json").unlink()
    with pytest.raises(SnowError, match="run `snow train` before the report"):
        build(own_road, RECIPE, tmp_path)


def test_the_page_stays_small_whatever_the_corpus_and_the_run(own_road: dict[str, Path], tmp_path: Path) -> None:
    """600 languages, 60 rules, 4,200 sample files, names of a megabyte, 18,000 steps."""
    names = [f"Language {index}" for index in range(600)]
    corpus = json.loads((own_road["corpus"] / "summary.json").read_text())
    corpus["drops"] = {f"rule {rule}": dict.fromkeys(names, 3) for rule in range(60)}
    corpus["standard"]["languages"] = {name: {"files": 3, "bytes": 9} for name in names}
    corpus["near_duplicates"]["largest"][0]["kept"] = "x" * 1_000_000
    (own_road["corpus"] / "summary.json").write_text(json.dumps(corpus))
    row = {"repository": "r", "path": "p", "license": "", "text": "y = 1\n" * 300}
    samples = [{**row, "kind": "dropped", "reason": f"rule {rule}", "language": name, "id": f"{rule}/{name}"} for rule in range(60) for name in names[::20]]
    samples += [{**row, "kind": "kept", "reason": "", "language": name, "id": name} for name in names for _ in range(4)]
    (own_road["corpus"] / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    annotation = json.loads((own_road["annotate"] / "summary.json").read_text())
    annotation["selection"] = dict.fromkeys(names, annotation["selection"]["Python"])
    annotation["histogram"]["languages"] = {name: [1] * 20 for name in names}
    (own_road["annotate"] / "summary.json").write_text(json.dumps(annotation))
    for phase in PHASES:
        rows = [{"step": step, "tokens": step * 4_000_000, "loss": 2 + step % 7 / 10, "gradient_norm": step % 5 / 3} for step in range(1, 6_001)]
        (own_road[f"train {phase}"] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        results = json.loads((own_road[f"evaluate {phase}"] / "results.json").read_text())
        results["bits_per_byte"]["heldout"] = dict.fromkeys(["all", *names], 2.5)
        results["measured"]["heldout_bytes"] = dict.fromkeys(names, 1_000)
        results["completions"] = [{"prompt": "p" * 100_000, "completion": "c" * 1_000_000}] * 40
        (own_road[f"evaluate {phase}"] / "results.json").write_text(json.dumps(results))
    assert len(_build(own_road, tmp_path / "report")) < 5_000_000 / 4  # a quarter of what it may be


def test_where_no_program_passes_the_interval_still_says_what_is_open(own_road: dict[str, Path], tmp_path: Path) -> None:
    path = own_road["evaluate general"] / "results.json"
    results = json.loads(path.read_text())
    results["benchmarks"]["humaneval+"]["pass_at"]["1"] = {"score": 0.0, "low": 0.0, "high": 0.0}  # what a bootstrap of zeros gives
    path.write_text(json.dumps(results))
    words = " ".join(_Page(_build(own_road, tmp_path)).sections["evaluation"].split())
    assert "humaneval+ pass@1 0.0 (0.0 to 2.3) 12.2 (9.8 to 14.6)" in words  # Wilson's interval of 0 in 164


def test_where_nothing_ran_that_is_said(own_road: dict[str, Path], tmp_path: Path) -> None:
    for phase in PHASES:
        path = own_road[f"evaluate {phase}"] / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "benchmarks": {}, "humaneval": None}))
    words = _Page(_build(own_road, tmp_path)).sections["evaluation"]
    assert "None was run: evaluate.samples is 0." in words and "Off the target" in words and "pass@1" not in words


def test_results_from_before_there_were_several_benchmarks_are_shown(own_road: dict[str, Path], tmp_path: Path) -> None:
    for phase in PHASES:
        path = own_road[f"evaluate {phase}"] / "results.json"
        results = json.loads(path.read_text())
        path.write_text(json.dumps({key: results[key] for key in ("bits_per_byte", "humaneval", "completions", "measured")}))
    (own_road["synthesize"] / "diversity.json").unlink()
    page = _Page(_build(own_road, tmp_path))
    words = " ".join(page.sections["evaluation"].split())
    assert "enhanced 0.6 % 1 of 164 0.1 to 3.4 %" in words and "syntax error 120 (73 %)" in words and "28.0 (21.7 to 35.4)" in words
    assert "No diversity." in page.sections["synthetic"]


def test_an_annotator_no_better_than_a_coin_is_called_that(own_road: dict[str, Path], tmp_path: Path) -> None:
    path = own_road["annotate"] / "summary.json"
    summary = json.loads(path.read_text())
    summary["validation"] |= {"auc": 0.69, "standard_error": 0.1, "positives": 13, "negatives": 16}
    path.write_text(json.dumps(summary))
    assert "cannot be told from 0.5" in _build(own_road, tmp_path / "report")
