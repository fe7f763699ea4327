"""`Session`: the key-value cache of one text, for callers who drive the model token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import ContextOverflowError

if TYPE_CHECKING:
    from pygpt.config import ModelConfig


class Session:
    """The tokens a model has read so far and its cache of them. Made by `Model.session`; one caller at a time."""

    def __init__(self, engine: _core.Engine, config: ModelConfig, core: _core.Session) -> None:
        self._engine = engine
        self._config = config
        self._core = core

    @property
    def length(self) -> int:
        """How many tokens the session holds, at most config.n_ctx."""
        return self._core.length

    def append(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Read (T,) more tokens and return the logits (n_vocab,) of the one after them.

        After an error or Ctrl-C the session is as it was before. ValueError: no tokens, or an id outside the
        vocabulary. ContextOverflowError: more than n_ctx tokens in all.
        """
        tokens = as_ids(ids, self._config.n_vocab, "ids")
        if self.length + len(tokens) > self._config.n_ctx:
            raise ContextOverflowError(
                f"{len(tokens)} more tokens after {self.length} do not fit the context of {self._config.n_ctx} tokens"
            )
        return self._engine.forward([(self._core, tokens)])[0]

    def fork(self) -> Session:
        """A second session with the same tokens. It shares their memory, and both may go on independently."""
        return Session(self._engine, self._config, self._core.fork())

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on; ValueError unless 0 <= length <= self.length."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be from 0 to {self.length}, the tokens in the session, not {length}")
        self._core.truncate(length)


def as_ids(ids: object, n_vocab: int, argument: str) -> NDArray[np.int32]:
    """Token ids from outside as a contiguous (T,) array, T >= 1.

    TypeError unless it is a flat sequence of integers; ValueError if it is empty or an id is outside the vocabulary.
    """
    try:
        array = np.asarray(ids)
    except ValueError:  # rows of different lengths
        array = np.empty((0, 0))
    if array.shape == (0,):
        raise ValueError(f"{argument} must not be empty")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{argument} must be a flat sequence of integer token ids, not {ids!r:.80}")
    outside = np.flatnonzero((array < 0) | (array >= n_vocab))
    if len(outside):
        at = outside[0]
        raise ValueError(f"token id {array[at]} at position {at} of {argument} is outside the vocabulary of {n_vocab}")
    return np.ascontiguousarray(array, np.int32)
