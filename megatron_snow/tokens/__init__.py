"""Text to tokens: the tokenizer, the indexed datasets training reads, and Megatron-LM's preprocessing tool."""
