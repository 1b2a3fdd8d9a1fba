#!/usr/bin/env python3
"""Look at, check and join Megatron's .bin/.idx: inspect, verify, merge."""

import sys

from megatron_snow.tokens.flags import dataset_main

if __name__ == "__main__":
    sys.exit(dataset_main())
