"""Text to tokens: the tokenizer, the indexed datasets training reads, and Megatron-LM's preprocessing tool."""

from megatron_snow.tokens.encoder import count_tokens, counting_encoder, load_tokenizer
from megatron_snow.tokens.indexed import IndexedDataset
from megatron_snow.tokens.shards import tokenize
from megatron_snow.tokens.tokenizer import tokenizer_fingerprint, train_tokenizer

__all__ = ["IndexedDataset", "count_tokens", "counting_encoder", "load_tokenizer", "tokenize", "tokenizer_fingerprint", "train_tokenizer"]
