"""The special tokens of the code models we make: StarCoder2's names (arXiv 2402.19173, section 5.1), in id order from 0.

They stand for structure only. Text is encoded with them switched off, so that a source file that spells out
``<|endoftext|>`` (this one does) cannot end its own document.
"""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
REPOSITORY_NAME = "<repo_name>"
FILE_SEPARATOR = "<file_sep>"
FIM_PREFIX = "<fim_prefix>"
FIM_MIDDLE = "<fim_middle>"
FIM_SUFFIX = "<fim_suffix>"
FIM_PAD = "<fim_pad>"

SPECIAL_TOKENS = (END_OF_TEXT, REPOSITORY_NAME, FILE_SEPARATOR, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, FIM_PAD)
