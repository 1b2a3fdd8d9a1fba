"""``snow audit``: which benchmark problems occur in some data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.cli.commands import app
from megatron_snow.cli.output import Result

CONTAMINATED = 1
"""Exit code where a problem was found, as grep and diff say what they found."""


@app.command()
def audit(
    target: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder or file of .jsonl(.gz, .zst) or .parquet rows (a tier, a synthetic set, raw data), or a .bin/.idx.")
    ],
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", metavar="NAME[=SOURCE]", help="humaneval, mbpp+=FILE, evoeval, bigcodebench/complete, apps, ...; may be repeated."),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", metavar="FOLDER", help="What made a .bin/.idx: a folder with tokenizer.json.")] = None,
    ngram_words: Annotated[int | None, typer.Option("--ngram-words", min=1, help="Words of an n-gram; corpus.decontamination's default.")] = None,
    ngram_overlap: Annotated[float | None, typer.Option("--ngram-overlap", help="Share of a text's words that n-grams must cover, above 0, at most 1.")] = None,
    min_characters: Annotated[int | None, typer.Option("--min-characters", min=8, help="Shorter texts are not looked for.")] = None,
    json_file: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write everything found as JSON into this file.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 is one a core.")] = 0,
) -> None:
    """Which benchmark problems occur in a corpus, tier, synthetic set or tokenized dataset, and in which documents.

    Looks for docstrings, wordings, instructions and solutions, exactly (white space and case apart) and by overlap of n-grams. HumanEval where no
    benchmark is named. Exit code 0: none was found; 1: some were; 2: it could not be done.
    """
    from pydantic import ValidationError

    from megatron_snow.corpus.audit import audit as look
    from megatron_snow.corpus.audit import render
    from megatron_snow.corpus.decontamination import Detector
    from megatron_snow.corpus.engine import cores
    from megatron_snow.corpus.settings import DecontaminationSettings

    given = {"ngram_words": ngram_words, "ngram_overlap": ngram_overlap, "min_characters": min_characters}
    named = [dict(zip(("name", "source"), one.partition("=")[::2], strict=True)) for one in benchmark or ["humaneval"]]
    try:
        settings = DecontaminationSettings.model_validate({"humaneval": "", "benchmarks": named, **{k: v for k, v in given.items() if v is not None}})
    except ValidationError as error:
        first = error.errors()[0]
        raise SnowError(f"snow audit: {first['loc'][-1]} {first['input']!r}: {first['msg'].removeprefix('Value error, ')}") from error
    result = look(target, Detector.of(settings), tokenizer, workers or cores())
    if json_file is not None:
        write_atomically(json_file, orjson.dumps(result, option=orjson.OPT_INDENT_2))
    Result().show({"target": str(target), **result}, render(result))
    if result["matches"]:
        raise typer.Exit(CONTAMINATED)
