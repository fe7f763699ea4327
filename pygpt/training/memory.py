"""A setting of the process that makes training faster; only whoever owns the process may want it."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let the process hold on to the arrays that a step frees, for the next one: mapping and clearing them anew takes a
    fifth of a small model's step. For
    glibc. It concerns all of the process: the command line calls it, and nothing else of pygpt."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the most it takes
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
