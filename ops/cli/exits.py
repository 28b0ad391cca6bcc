"""Exit codes: what a script learns without reading words.

They follow from the class of the error, as the HTTP status does, so that a command answers alike whether the
failure was met here or by the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from engine.errors import DueworkError, GateBlocked


class Exit(IntEnum):
    """What each code means; `duework` ends with no other, save 130 after Ctrl-C."""

    OK = 0
    FAILED = 1  # it differs, or the run failed
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    AUTH = 5
    CONFLICT = 6
    BLOCKED = 7  # by the gate
    WAIT_TIMED_OUT = 8  # the run goes on
    UNREACHABLE = 9


BY_STATUS: Mapping[int, Exit] = {
    400: Exit.INVALID,
    401: Exit.AUTH,
    403: Exit.AUTH,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    413: Exit.INVALID,
    415: Exit.INVALID,
    422: Exit.INVALID,
    429: Exit.UNREACHABLE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}

BY_RUN: Mapping[str, Exit] = {"succeeded": Exit.OK, "blocked": Exit.BLOCKED}


def of_error(error: DueworkError) -> Exit:
    """The code for an error: its own kind first, then its status; 1 for what nobody expected."""
    if isinstance(error, GateBlocked):
        return Exit.BLOCKED
    return BY_STATUS.get(error.status, Exit.FAILED)


def of_run(status: str) -> Exit:
    """The code for how a finished run ended."""
    return BY_RUN.get(status, Exit.FAILED)
