"""Small trained checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_snow.artifacts.manifest import list_files
from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.settings import CheckpointSettings
from megatron_snow.checkpoint.store import DESCRIPTION, read_description, step_folder
from megatron_snow.parallel.settings import Layout
from tests.training import ranks, small

UNTIED = small.MODEL.model_copy(update={"tied": False})
AT_STEP_3 = small.train(checkpoint=CheckpointSettings(every=Duration(amount=3, unit="steps"), keep=9))


def reseal(folder: Path) -> None:
    """Give a checkpoint that a test has changed checksums that agree with what it holds now."""
    changed = read_description(folder).model_copy(update={"files": list_files(folder, besides=(DESCRIPTION,))})
    (folder / DESCRIPTION).write_text(changed.model_copy(update={"sha256": changed.checksum()}).model_dump_json())


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def trained(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder with checkpoints of steps 3 and 5, saved under tensor 2 x pipeline 2, untied."""
    work = tmp_path_factory.mktemp("trained")
    ranks.run(small.train_rank, 4, small.spec(tokens, work, Layout(tensor=2, pipeline=2), UNTIED, train=AT_STEP_3))
    return work


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint of step 3 that a test may damage, alone in a training folder."""
    import shutil

    folder = step_folder(tmp_path, 3)
    shutil.copytree(step_folder(trained, 3), folder)
    return folder
