"""Checkpoints become Hugging Face Llama or Qwen2 folders, and such folders become checkpoints."""

from megatron_snow.convert.bring_in import to_checkpoint
from megatron_snow.convert.export import to_hugging_face

__all__ = ["to_checkpoint", "to_hugging_face"]
