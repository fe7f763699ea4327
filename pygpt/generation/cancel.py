"""`CancelToken`: stops a computation from outside."""

from __future__ import annotations

from typing import NoReturn

from pygpt import _core


class CancelToken(_core.CancelFlag):
    """Stops a computation from outside: give it to `Model.generate` and call `cancel()` from any thread."""

    def cancel(self) -> None:
        """Stop within one layer of the model; whatever is given this token afterwards stops at once."""
        self.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self.is_set()

    def __repr__(self) -> str:
        return f"<pygpt.CancelToken: {'cancelled' if self.cancelled else 'not cancelled'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CancelToken belongs to one process: make one where the model computes, and cancel it there")


def cancel_token(cancel: CancelToken | None) -> CancelToken:
    """The caller's, or a new one. TypeError: it is something else."""
    if cancel is None:
        return CancelToken()
    if not isinstance(cancel, CancelToken):
        raise TypeError(f"cancel must be a CancelToken or None, not {type(cancel).__name__}")
    return cancel
