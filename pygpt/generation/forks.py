"""Objects that begin anew in a forked process: there are no threads but one, and a lock may be held for ever."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """An object with threads or locks."""

    def begin(self) -> None:
        """Forget what belongs to the process that this one was forked from, before anything else is done here."""


_objects: weakref.WeakSet[Forked] = weakref.WeakSet()


def begin_in_children(forked: Forked) -> None:
    """Have this object begin anew in each process that is forked from this one, as long as somebody has it."""
    _objects.add(forked)


def _begin() -> None:
    for forked in list(_objects):
        forked.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
