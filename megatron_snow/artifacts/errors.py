"""The one exception a user sees."""

from __future__ import annotations


class SnowError(Exception):
    """Something the user can mend: what is wrong, the value, and what to do.

    The command line prints the message without a traceback and exits with code 2. Anything else that
    escapes is a bug of ours and keeps its traceback.
    """
