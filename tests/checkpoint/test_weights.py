from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata
from megatron_snow.checkpoint.weights import read_weights, weight_shapes
from megatron_snow.model.settings import parameters
from tests.checkpoint.conftest import UNTIED, reseal
from tests.training import ranks


def plain_tensors(rank: int, world: int, rendezvous: str, folder: Path) -> dict[str, torch.Tensor]:
    """What megatron-core itself loads from a checkpoint, whole."""
    from megatron.core.dist_checkpointing import load_plain_tensors

    from megatron_snow.parallel import cpu_device

    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    cpu_device.activate()
    return load_plain_tensors(str(folder))


def test_weights_are_what_megatron_core_loads(checkpoint: Path) -> None:
    expected = ranks.run(plain_tensors, 1, checkpoint)[0]
    found = dict(read_weights(checkpoint))
    assert found.keys() == {name for name in expected if not name.startswith("optimizer")}
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())
    main = {name: expected[f"optimizer.state.param.{name}"] for name in found}  # fp32 run: the optimizer's weights are the model's
    assert all(torch.equal(weight, main[name]) for name, weight in found.items())


def test_names_come_in_reading_order_with_whole_shapes(checkpoint: Path) -> None:
    shapes = weight_shapes(checkpoint)
    assert [name for name, _ in read_weights(checkpoint)] == list(shapes)
    names = list(shapes)
    assert names[0] == "embedding.word_embeddings.weight" and names[-2:] == ["decoder.final_layernorm.weight", "output_layer.weight"]
    assert [name.split(".")[2] for name in names[1:-2]] == [str(layer) for layer in range(4) for _ in range(6)]
    assert shapes["decoder.layers.2.mlp.linear_fc1.weight"] == (2 * UNTIED.ffn, UNTIED.hidden)
    assert shapes["decoder.layers.2.self_attention.linear_qkv.weight"] == (UNTIED.hidden + 2 * UNTIED.kv_heads * UNTIED.head_size, UNTIED.hidden)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters(UNTIED, 256)


def test_truncated_and_missing_pieces_are_clear_errors(checkpoint: Path) -> None:
    weights, optimizer = sorted(checkpoint.glob("*_0.distcp")), sorted(checkpoint.glob("*_1.distcp"))
    assert len(weights) == len(optimizer) == 4  # two a rank
    optimizer[0].unlink()
    assert len(list(read_weights(checkpoint))) == 6 * 4 + 3  # the optimizer's state is not read
    weights[0].write_bytes(weights[0].read_bytes()[: weights[0].stat().st_size // 20])
    with pytest.raises(SnowError, match=r"__0_0\.distcp is (damaged or missing|cut short)"):
        list(read_weights(checkpoint))
    weights[0].unlink()
    with pytest.raises(SnowError, match=r"__0_0\.distcp is damaged or missing"):
        list(read_weights(checkpoint))


def test_a_flipped_bit_is_found(checkpoint: Path) -> None:
    part = checkpoint / "__1_0.distcp"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(SnowError, match=r"__1_0\.distcp is damaged where .* checksum differs"):
        list(read_weights(checkpoint))


def test_pieces_that_do_not_make_up_a_weight_are_refused_whatever_the_checksums_say(checkpoint: Path) -> None:
    metadata = read_metadata(checkpoint)
    metadata.state_dict_metadata["decoder.layers.0.mlp.linear_fc1.weight"].chunks.pop()
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(SnowError, match=r"\.metadata (is not what was saved|has [0-9]+ bytes)"):
        list(read_weights(checkpoint))
    reseal(checkpoint)
    with pytest.raises(SnowError, match=r"linear_fc1\.weight hold 12288 of its 16384 numbers"):
        list(read_weights(checkpoint))
    (checkpoint / "__0_0.distcp").write_bytes(b"PK")
    reseal(checkpoint)
    with pytest.raises(SnowError, match=r"__0_0\.distcp is (damaged or missing|cut short)"):
        list(read_weights(checkpoint))


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.distributed.checkpoint.save({"weight": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(SnowError, match="no model weights under the names"):
        weight_shapes(tmp_path)
