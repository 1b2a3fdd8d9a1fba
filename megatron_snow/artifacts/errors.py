"""The exceptions a user sees, and the exit codes that a batch script reads."""

from __future__ import annotations


class SnowError(Exception):
    """Something the user can mend: what is wrong, the value, and what to do.

    The command line prints the message without a traceback and exits with ``exit_code``. Anything else that
    escapes is a bug of ours and keeps its traceback (code 1).
    """

    exit_code = 2


class Stopped(SnowError):
    """A signal asked for a stop; what was done is saved. The same command goes on: a batch script requeues."""

    exit_code = 3


class LostRank(SnowError):
    """A process of the run was killed, lost with its machine, or hung. The same command goes on from the last checkpoint."""

    exit_code = 4
