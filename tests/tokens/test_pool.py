"""The encoding processes: order, errors, kills."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.tokens.encoder import load_tokenizer
from megatron_snow.tokens.pool import encode_stream


def test_results_come_in_order_and_input_is_read_only_a_few_ahead(tokenizer: Path) -> None:
    spec = load_tokenizer(tokenizer).spec
    texts = [[f"x{i}"] * (1 + 400 * (i % 7 == 0)) for i in range(60)]
    read = count()
    newest = -1

    def batches():  # type: ignore[no-untyped-def]
        nonlocal newest
        for some in texts:
            newest = next(read)
            yield some, newest

    encoder = spec.build()
    for i, (ids, lengths, tag) in enumerate(encode_stream(spec, batches(), workers=3)):
        assert tag == i
        assert newest <= i + 3 * 4
        expected = encoder.encode(texts[i])
        assert np.array_equal(ids, expected[0]) and np.array_equal(lengths, expected[1])
    assert i == 59


def test_what_a_worker_raises_is_raised_here(tokenizer: Path) -> None:
    spec = load_tokenizer(tokenizer).spec
    texts = [["fine"]] * 20 + [["\ud800"]] + [["fine"]] * 20
    with pytest.raises(TypeError, match="TextEncodeInput"):
        list(encode_stream(spec, ((some, None) for some in texts), workers=2))


def test_a_killed_worker_is_named(tokenizer: Path) -> None:
    spec = load_tokenizer(tokenizer).spec
    before = set(psutil.Process().children())
    stream = encode_stream(spec, ((["x" * 1000], i) for i in count()), workers=2)
    next(stream)
    max(set(psutil.Process().children()) - before, key=lambda process: process.pid).kill()
    with pytest.raises(SnowError, match="exit code -9"):
        list(islice(stream, 100))


def test_workers_end_with_a_killed_parent(tokenizer: Path) -> None:
    script = (
        "import sys, itertools; from pathlib import Path; from megatron_snow.tokens import load_tokenizer\n"
        "from megatron_snow.tokens.pool import encode_stream\n"
        "for _ in encode_stream(load_tokenizer(Path(sys.argv[1])).spec, ((['x'], i) for i in itertools.count()), 2): print('.', flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", script, str(tokenizer)], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=20)[1]
