"""The same vectors whatever computes them: other order, other windows, other numbers of workers."""

import os
import random
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality import crew as crew_module
from megatron_snow.quality.crew import EncoderCrew, ahead
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.settings import AnnotateSettings


def make(workers, **changes):
    values = {"encoder": "fixture:all-MiniLM-L6-v2", "pooling": "mean", "section": 32, "batch_tokens": 64, "workers": workers, **changes}
    settings = AnnotateSettings.model_validate(values)
    return EncoderCrew(settings, SectionEncoder(settings))


@pytest.fixture(scope="module")
def sections(documents):
    encoder = make(1).encoder
    found = [section for sections in encoder.sections([d["text"] for d in documents[::4]]) for section in sections]
    return [*found, *(section[:n] for section, n in zip(found, (2, 5, 9, 20, 31), strict=False)), *found[:7]]  # short ones, and copies


def test_workers_give_the_bits_of_this_process_alone_and_a_killed_one_is_told_of(sections, monkeypatch):
    monkeypatch.setattr(crew_module, "_WORTH_STARTING", 0.0)  # start them for a little work as well
    alone = make(1).encoder.embed(sections)
    order = random.Random(0).sample(range(len(sections)), len(sections))
    with make(2) as crew:
        told = []
        assert np.array_equal(crew.embed([sections[i] for i in order], told.append), alone[order])
        assert sum(told) == len(sections) and crew._processes is not None
        assert np.array_equal(crew.embed(sections[:40]), alone[:40])
        assert crew.computed.sections == len(sections) + 40 and crew.computed.distinct < crew.computed.sections
        os.kill(_workers()[-1].pid, signal.SIGKILL)
        with pytest.raises(SnowError, match=r"an encoder process ended early \(exit code -9"):
            crew.embed(sections)
    assert not _workers()


def _workers():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_the_number_of_torchs_threads_changes_nothing(sections):
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(make(1).encoder.embed(sections[:30]))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_copies_are_computed_once_and_padding_is_counted(sections):
    crew = make(1)
    full = [section for section in sections if len(section) == 32][:9]
    distinct = len({tuple(section) for section in full})
    crew.embed([*full, full[0]])
    computed = crew.computed
    assert (computed.sections, computed.distinct, computed.tokens, computed.with_padding) == (len(full) + 1, distinct, distinct * 32, -(-distinct // 2) * 64)


def test_items_made_ahead_come_in_order_and_errors_come_through():
    made = []

    def items():
        for i in range(6):
            made.append(i)
            yield i
        raise ValueError("broken")

    stream = ahead(items(), depth=2)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 4  # one used, two ready, one waiting for room
    rest = []
    with pytest.raises(ValueError, match="broken"):
        rest.extend(stream)
    before = threading.active_count()
    stream = ahead(iter(range(100)), depth=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before
