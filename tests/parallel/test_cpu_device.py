from __future__ import annotations

import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.settings import Layout
from tests.training import ranks


def test_shim_refuses_a_machine_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_snow.parallel import cpu_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.cuda.current_device
    with pytest.raises(SnowError, match="machine with CUDA"):
        cpu_device.activate()
    assert torch.cuda.current_device is before


def asked_of_cuda(rank: int, world: int, rendezvous: str) -> dict[str, object]:
    from megatron_snow.parallel import cpu_device

    cpu_device.activate()
    cpu_device.activate()  # a second call changes nothing
    here = torch.ones(2)
    return {
        "literal": torch.zeros(2, device="cuda").device.type, "object": torch.zeros(2, device=torch.device("cuda:0")).device.type,
        "current": torch.zeros(2, device=torch.cuda.current_device()).device.type, "method": here.cuda() is here, "to": here.to("cuda").device.type,
        "pinned": torch.empty(2, pin_memory=True).is_pinned(), "type": here.type(), "cast": here.type(torch.bfloat16).dtype == torch.bfloat16,
        "synchronize": torch.cuda.synchronize(),
    }  # fmt: skip


def test_cuda_requests_get_the_cpu() -> None:
    assert ranks.run(asked_of_cuda, 1)[0] == {
        "literal": "cpu", "object": "cpu", "current": "cpu", "method": True, "to": "cpu", "pinned": False, "type": "torch.cuda.FloatTensor", "cast": True,
        "synchronize": None,
    }  # fmt: skip


def draws(rank: int, world: int, rendezvous: str) -> list[list[float]]:
    from megatron.core.tensor_parallel import get_cuda_rng_tracker

    ranks.joined(Layout(tensor=2), rank, world, rendezvous)
    first = torch.rand(3).tolist()
    with get_cuda_rng_tracker().fork():
        inside = torch.rand(3).tolist()
    after = torch.rand(3).tolist()
    with get_cuda_rng_tracker().fork():
        inside_again = torch.rand(3).tolist()
    return [first, inside, after, inside_again]


def test_tensor_ranks_share_the_default_stream_and_have_their_own() -> None:
    one, other = ranks.run(draws, 2)
    assert one[0] == other[0] and one[2] == other[2]
    assert one[1] != other[1]
    assert len({tuple(draw) for draw in one}) == 4  # every stream goes on where it was


def test_unknown_stream_is_an_error() -> None:
    with pytest.raises(AssertionError, match="there is no random stream missing"):
        ranks.run(fork_missing, 1)


def fork_missing(rank: int, world: int, rendezvous: str) -> None:
    from megatron.core.tensor_parallel import get_cuda_rng_tracker

    ranks.joined(Layout(), rank, world, rendezvous)
    with get_cuda_rng_tracker().fork("missing"):
        pass
