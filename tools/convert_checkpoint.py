#!/usr/bin/env python3
"""A megatron_snow checkpoint -> a Hugging Face Llama folder.

    python tools/convert_checkpoint.py --checkpoint out/quickstart/6-train/enhanced --tokenizer out/quickstart/2-tokenizer --output my-model

``--checkpoint`` is a training folder (its newest checkpoint is taken) or one checkpoints/step-* folder. ``--output`` appears
whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert import to_hugging_face


def main() -> int:
    """Parse the command line, convert, print the counts; 2 where the user can mend what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="training folder, or one step-* checkpoint")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json (the tokenizer arrow's)")
    parser.add_argument("--output", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="of the weights; default: as in the checkpoint")
    given = parser.parse_args()
    try:
        counts = _convert(given)
    except SnowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(counts))
    return 0


def _convert(given: argparse.Namespace) -> dict:
    output: Path = given.output
    if output.exists():
        raise SnowError(f"{output} exists: delete it or name another --output")
    work = output.with_name(output.name + ".building")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise SnowError(f"cannot write {output} ({error.strerror}): name another --output") from error
    try:
        counts = to_hugging_face(given.checkpoint, given.tokenizer, work, given.dtype)
        os.rename(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())
