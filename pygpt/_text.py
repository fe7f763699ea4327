"""What strings have in common."""

from __future__ import annotations


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, less than all of it."""
    if not text or text[-1] not in stop:  # mostly
        return 0
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
