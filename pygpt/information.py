"""What a model's logits say about the next token, in bits (Shannon 1948, A Mathematical Theory of Communication)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Ids = Sequence[int] | NDArray[np.integer[Any]]


def log_softmax(x: Array) -> Array:
    """The logarithm of a softmax over the last axis, without the numbers that are too small for it."""
    below: Array = x - x.max(axis=-1, keepdims=True)
    total: Array = np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return below - total


def entropy(log_p: Array) -> Array:
    """How uncertain the next token is, in bits, from the `log_softmax` of the logits: (T, V) -> (T,), the mean of
    -log2 p."""
    bits: Array = (np.exp(log_p) * log_p).sum(axis=-1, dtype=np.float64) / -np.log(2.0)
    return bits


def surprisal(log_p: Array, following: Ids) -> Array:
    """-log2 of the probability, in bits, of the tokens that followed: (T, V) and (T,) ids -> (T,)."""
    bits: Array = np.take_along_axis(log_p, np.asarray(following, np.int64)[:, None], axis=1)[:, 0] / -np.log(2.0)
    return bits
