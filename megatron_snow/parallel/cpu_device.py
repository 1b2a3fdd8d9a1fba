"""megatron-core's hard-coded CUDA requests, answered by the CPU.

megatron-core 0.16.1 writes ``device="cuda"``, ``.cuda()`` and ``torch.cuda.current_device()`` into schedules, gradient
buffers and optimizers, with no option. ``activate`` gives those a CPU meaning for the life of the process: a
TorchFunctionMode (the mechanism of ``torch.set_default_device``) rewrites explicit device requests, two torch.cuda
functions are replaced, and the tensor-parallel random streams live in the CPU's generator. Trade-off: this is
process-wide and there is no way back, so it runs once, in a rank's own process, and refuses where CUDA works.
Only the thread that calls ``activate`` is covered (and what runs in it: autograd on CPU does not leave it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from megatron_snow.artifacts.errors import SnowError

CPU = torch.device("cpu")


def _names_cuda(device: object) -> bool:
    return (isinstance(device, torch.device) and device.type == "cuda") or (isinstance(device, str) and device.startswith("cuda"))


class CudaMeansCpu(TorchFunctionMode):
    """Rewrites what library code asks of CUDA to the same request of the CPU."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if kwargs and _names_cuda(kwargs.get("device")):
            kwargs = {**kwargs, "device": CPU}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.to and len(args) > 1 and _names_cuda(args[1]):
            args = (args[0], CPU, *args[2:])
        elif func is torch.Tensor.type and len(args) == 1 and not kwargs:
            # the optimizers sort parameters by comparing type() with 'torch.cuda.FloatTensor' and its like
            return func(*args).replace("torch.", "torch.cuda.", 1)
        return func(*args, **kwargs)


def activate() -> None:
    """Give CUDA requests a CPU meaning in this process; a second call does nothing.

    Raises:
        SnowError: where CUDA is available: the shim would hide the real device.
    """
    if torch.cuda.is_available():
        raise SnowError("the CPU device shim was asked for on a machine with CUDA: use the cuda backend, or hide the device with CUDA_VISIBLE_DEVICES=''")
    if _is_active():
        return
    torch.cuda.current_device = _current_device  # type: ignore[assignment]
    torch.cuda.synchronize = _synchronize
    CudaMeansCpu().__enter__()  # type: ignore[no-untyped-call]
    _install_random_streams()


def _is_active() -> bool:
    return getattr(torch.cuda, "current_device") is _current_device  # noqa: B009 - its declared type is not what the shim puts there


def _current_device() -> torch.device:
    return CPU


def _synchronize(device: object = None) -> None:
    """Work on the CPU is finished when the call returns."""


def _install_random_streams() -> None:
    from megatron.core.tensor_parallel import random as mcore_random

    class CpuRandomStreams(mcore_random.CudaRNGStatesTracker):  # type: ignore[misc]
        """Megatron's named random streams (one per tensor-parallel rank) over the CPU generator."""

        def add(self, name: str, seed: int) -> None:
            self._is_initialized = True
            if seed in self.seeds_ or name in self.states_:
                raise ValueError(f"random stream {name} (seed {seed}) exists already")
            self.seeds_.add(seed)
            outer = torch.get_rng_state()
            torch.manual_seed(seed)
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(outer)

        @contextmanager
        def fork(self, name: str = mcore_random._MODEL_PARALLEL_RNG_TRACKER_NAME) -> Iterator[None]:
            if name not in self.states_:
                raise ValueError(f"there is no random stream {name}: seed the backend first")
            outer_state, outer_name = torch.get_rng_state(), self._current_state_name  # type: ignore[has-type]
            nested = outer_name != "default-rng"  # megatron's name for "inside no stream"
            if nested:
                self.states_[outer_name] = outer_state
            torch.set_rng_state(self.states_[name])
            self._current_state_name = name
            try:
                yield
            finally:
                self.states_[name] = torch.get_rng_state()
                torch.set_rng_state(self.states_[outer_name] if nested else outer_state)
                self._current_state_name = outer_name

    def get_state(device: object = "cuda", clone: bool = False, graph_safe: bool = False) -> torch.Tensor:
        return torch.get_rng_state()

    def set_state(state: torch.Tensor, device: object = -1, graph_safe: bool = False) -> None:
        torch.set_rng_state(state)

    mcore_random._CUDA_RNG_STATE_TRACKER = CpuRandomStreams()
    mcore_random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    mcore_random._get_cuda_rng_state = get_state  # activation recomputation saves and restores the device's generator
    mcore_random._set_cuda_rng_state = set_state
