#!/usr/bin/env python3
"""JSON lines or Parquet -> Megatron's .bin/.idx; flags and outputs of Megatron-LM's tool of the same name."""

import sys

from megatron_snow.tokens.flags import preprocess_main

if __name__ == "__main__":
    sys.exit(preprocess_main())
