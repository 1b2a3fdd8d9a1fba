#!/usr/bin/env python3
"""A megatron_snow checkpoint -> a Hugging Face model folder, and back.

Checkpoint of any layout to a Llama (or, with query/key/value biases, Qwen2) folder that AutoModelForCausalLM loads:

    python tools/convert_checkpoint.py --checkpoint out/quickstart/6-train/enhanced --tokenizer out/quickstart/2-tokenizer --output my-model

A Llama or Qwen2/2.5 folder with safetensors weights to a checkpoint that any layout loads and that a phase can start from:

    python tools/convert_checkpoint.py --hugging-face Qwen2.5-Coder-0.5B --output base
    python tools/convert_checkpoint.py --checkpoint base --tokenizer base/hugging_face --output copy     # and back, bit for bit

--output appears whole or not at all. Both ways run on the CPU, without process groups or a network, in memory for about two
tensors, and neither reads nor writes optimizer state. The counts are printed as JSON; exit code 2 means that you can mend what is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert import to_checkpoint, to_hugging_face
from megatron_snow.convert.config import read_config
from megatron_snow.training.phase import vocabulary_of


def main() -> int:
    """Parse the command line, convert, print the counts; 2 where the user can mend what is wrong."""
    given = _parser().parse_args()
    try:
        counts = _convert(given)
    except SnowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(counts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="to Hugging Face: a training folder (its newest checkpoint is taken), or one checkpoints/step-* folder")
    source.add_argument("--hugging-face", type=Path, metavar="FOLDER", help="to a checkpoint: a folder with config.json and model*.safetensors")
    parser.add_argument("--output", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument(
        "--tokenizer", type=Path,
        help="folder with tokenizer.json. To Hugging Face (needed): the tokenizer arrow's, or hugging_face/ beside a converted checkpoint. "
        "To a checkpoint: the tokenizer to go on with, whose size decides the rows; default: every row of the model",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="of the weights; default: as in the source (fp16 becomes fp32)")
    parser.add_argument("--keep-padding", action="store_true", help="to Hugging Face: keep the embedding's rows that no token uses")
    parser.add_argument(
        "--vocabulary-multiple", type=int, metavar="N", help="to a checkpoint: pad the rows to a multiple of N, as the recipe's model.vocabulary_multiple; 128"
    )
    return parser


def _convert(given: argparse.Namespace) -> dict[str, Any]:
    output: Path = given.output
    if given.checkpoint and given.tokenizer is None:
        raise SnowError("--checkpoint needs --tokenizer: the folder of the tokenizer it was trained with, or hugging_face/ beside a converted checkpoint")
    if given.checkpoint and given.vocabulary_multiple is not None:
        raise SnowError("--vocabulary-multiple goes with --hugging-face: a checkpoint has the rows it was trained with; leave it out")
    if given.hugging_face and given.keep_padding:
        raise SnowError("--keep-padding goes with --checkpoint: on the way to a checkpoint the rows are padded anyhow; leave it out")
    if output.exists():
        raise SnowError(f"{output} exists: delete it or name another --output")
    work = output.with_name(output.name + ".building")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise SnowError(f"cannot write {output} ({error.strerror}): name another --output") from error
    try:
        counts = _to_hugging_face(given, work) if given.checkpoint else _to_checkpoint(given, work)
        os.rename(work, output)
    except OSError as error:  # a full disk, a file taken away meanwhile
        raise SnowError(f"{error.strerror} at {error.filename or output}: mend that and run again") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return counts


def _to_hugging_face(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    return to_hugging_face(given.checkpoint, given.tokenizer, work, given.dtype, given.keep_padding)


def _to_checkpoint(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    multiple = given.vocabulary_multiple if given.vocabulary_multiple is not None else 128
    if multiple < 1:
        raise SnowError(f"--vocabulary-multiple {multiple}: give 1 or more")
    model = read_config(given.hugging_face).model.model_copy(update={"vocabulary_multiple": multiple})
    vocabulary = vocabulary_of(given.tokenizer) if given.tokenizer else None
    return to_checkpoint(given.hugging_face, work, vocabulary, given.dtype, model)


if __name__ == "__main__":
    sys.exit(main())
