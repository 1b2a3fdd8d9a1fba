import numpy as np
import pytest

from megatron_snow.artifacts.documents import read_documents, read_shard, shards
from megatron_snow.artifacts.progress import Progress
from megatron_snow.quality.crew import EncoderCrew
from megatron_snow.quality.encoder import SectionEncoder
from megatron_snow.quality.head import LinearHead
from megatron_snow.quality.heads import Heads
from megatron_snow.quality.labelled import Example
from megatron_snow.quality.scoring import Labelled, _in_files, embed_labelled, score_tier
from megatron_snow.quality.survey import Sample
from megatron_snow.tokens.encoder import load_tokenizer


@pytest.fixture
def crew(settings):
    """Windows of 64 files."""
    chosen = settings(batch_tokens=16)
    return EncoderCrew(chosen, SectionEncoder(chosen))


@pytest.fixture
def heads(crew):
    return Heads({"*": LinearHead(np.random.default_rng(0).normal(size=crew.encoder.width).astype(np.float32), 0.1)})


def test_parts_are_used_and_only_the_missing_computed(crew, heads, corpus, documents, tokenizer, tmp_path):
    sample = Sample(0, 1.0, len(documents), None)
    arguments = (crew, heads, corpus / "standard", sample, load_tokenizer(tokenizer), tmp_path)
    first = score_tier(*arguments)
    parts = sorted(tmp_path.rglob("*.parquet"))
    sizes = [len(list(read_shard(shard))) for shard in shards(corpus / "standard")]
    assert len(parts) == sum(-(-size // 64) for size in sizes) > 1  # windows end with their shard
    parts[0].unlink()
    stamps = {part: part.stat().st_mtime_ns for part in parts if part.exists()}
    assert score_tier(*arguments).equals(first)
    assert parts[0].exists() and stamps == {part: part.stat().st_mtime_ns for part in stamps}


def test_parts_of_another_head_are_not_used(crew, heads, corpus, documents, tokenizer, tmp_path):
    sample = Sample(0, 1.0, 5, frozenset(d["id"] for d in documents[:5]))
    one = score_tier(crew, heads, corpus / "standard", sample, load_tokenizer(tokenizer), tmp_path)
    other = score_tier(
        crew, Heads({"*": LinearHead(-heads.heads["*"].weight, -heads.heads["*"].bias)}), corpus / "standard", sample, load_tokenizer(tokenizer), tmp_path
    )
    np.testing.assert_allclose(one["score"].to_numpy() + other["score"].to_numpy(), 1, atol=1e-12)


def test_an_empty_sample_is_an_empty_table(crew, heads, corpus, tokenizer, tmp_path):
    assert score_tier(crew, heads, corpus / "standard", Sample(0, 1.0, 0, frozenset()), load_tokenizer(tokenizer), tmp_path).num_rows == 0


def test_labelled_windows_resume_too(crew, corpus, tmp_path):
    files = [(Example(d["id"], d["repository"], d["language"], -1, 0.0), d["text"]) for d in read_documents(corpus / "standard")][:70]
    first = embed_labelled(crew, files, len(files), tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    sorted(tmp_path.rglob("*.safetensors"))[0].unlink()
    again = embed_labelled(crew, iter(files), len(files), tmp_path)
    assert again.examples == first.examples and np.array_equal(again.vectors, first.vectors) and np.array_equal(again.counts, first.counts)


def test_a_part_of_the_labelled_files_has_their_sections():
    counts = np.array([1, 3, 2])
    labelled = Labelled([], np.arange(6, dtype=np.float32)[:, None], counts)
    vectors, found = labelled.part(np.array([True, False, True]))
    assert vectors[:, 0].tolist() == [0, 4, 5] and found.tolist() == [1, 2]


def test_the_bar_ends_at_the_number_of_files():
    bar = Progress("x", 7)
    advance = _in_files(bar, 7, 19)
    for more in (3, 1, 8, 5, 2):
        advance(more)
        assert bar.done == int(bar.done)
    assert bar.done == 7
