"""The report on what the data arrows really write; the end-to-end test of the road has it on all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.publish import Building
from megatron_snow.corpus import build as build_corpus
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.report import build
from megatron_snow.tokens.settings import TokenizerSettings, TokenizeSettings
from megatron_snow.tokens.shards import tokenize
from megatron_snow.tokens.tokenizer import train_tokenizer

_PAGE = """<!doctype html><html><head><title>Order {n}</title></head><body><script>alert("stolen {n}")</script>
<p>Your order number {n} was sent on its way this morning and should reach you before the end of the week.</p>
<p>If it does not, please write to us and tell us the number above: we will look for it, and send another one.</p></body></html>
"""
_CODE = '''"""Orders of customer {n}."""


def total_{n}(prices, discount={n}):
    """The sum of all prices after the discount for customer {n}; prices below zero are refused."""
    if min(prices, default=0) < 0:
        raise ValueError("customer {n} has a negative price")
    return sum(prices) * (100 - discount) / 100
'''


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("road")
    rows = [{"content": _CODE.format(n=n), "path": f"src/orders_{n}.py", "repo_name": f"shop/r{n % 6}", "license": "MIT"} for n in range(24)]
    rows += [{"content": _PAGE.format(n=n), "path": f"pages/<b>{n}.html", "repo_name": f"shop/r{n % 6}", "license": "Apache-2.0"} for n in range(6)]
    rows += [{"content": "x = 1\n" + "y" * 5_000, "path": "long.py", "repo_name": "shop/r0", "license": "MIT"}]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = CorpusSettings.model_validate(
        {
            "sources": [{"kind": "folder", "name": "shop", "path": str(out / "rows.jsonl")}],
            "heldout_fraction": 0.3,
            "near_duplicates": {"jaccard": 1.0},
            "workers": 1,
        }
    )
    corpus = Building(out / "1-corpus", "corpus", 1, settings.identity(), 7, {}).open()
    corpus.counts = build_corpus(settings, 7, corpus.work)
    corpus.publish()
    learned = TokenizerSettings.model_validate({"train": {"vocabulary": 300}})
    tokenizer = Building(out / "2-tokenizer", "tokenizer", 1, learned.identity(), 7, {}).open()
    tokenizer.counts = train_tokenizer(learned, corpus.folder, tokenizer.work)
    tokenizer.publish()
    tokens = Building(out / "5-tokenize", "tokenize", 1, {}, 7, {}).open()
    tiers = {name: corpus.folder / name for name in ("standard", "heldout")}
    tokens.counts = tokenize(TokenizeSettings(workers=1), 7, tiers, tokenizer.folder, tokens.work)
    tokens.publish()
    return {"corpus": corpus.folder, "tokenizer": tokenizer.folder, "tokenize": tokens.folder}


def test_the_report_reads_what_the_data_arrows_write(road: dict[str, Path], tmp_path: Path) -> None:
    build(road, {"name": "shop", "seed": 7}, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    counted = json.loads((road["tokenize"] / "summary.json").read_text())["tiers"]["standard"]
    corpus = json.loads((road["corpus"] / "summary.json").read_text())
    assert f"{corpus['kept']} of {corpus['in']} files stay" in page
    assert f"standard {counted['tokens']:,} tokens" in page
    assert all(reason in page for reason in corpus["drops"]) and corpus["drops"]
    assert "<script" not in page and "<b>0.html" not in page
    assert "shop/shop/r0/long.py" in page  # the example of a dropped file
