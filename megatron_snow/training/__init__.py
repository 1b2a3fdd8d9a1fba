"""The train arrow: three phases on megatron-core, resumable to the bit, the same on CPU and GPU."""

from megatron_snow.training.phase import train_phase

__all__ = ["train_phase"]
