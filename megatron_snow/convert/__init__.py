"""Checkpoints become Hugging Face Llama folders, and the mapping of weights both ways."""

from megatron_snow.convert.export import to_hugging_face

__all__ = ["to_hugging_face"]
