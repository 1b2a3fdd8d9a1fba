"""The Llama-style decoder on megatron-core's GPTModel: its numbers, its weights before training, its size and cost."""
