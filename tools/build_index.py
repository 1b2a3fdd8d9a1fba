#!/usr/bin/env python3
"""Build the sample indices of a recipe's phases ahead of training, on CPUs."""

import sys

from megatron_snow.cli.build_index import main

if __name__ == "__main__":
    sys.exit(main())
