"""``python -m megatron_snow`` is ``snow``."""

from megatron_snow.cli import main

if __name__ == "__main__":
    main()
