"""Dropout (Srivastava et al. 2014) in plain NumPy, with masks that are a function of a key: nobody stores them, and a
backward pass finds again what the forward pass dropped.

The function stands in csrc/kernels/training/dropout.h, and the compiled core drops the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.training.primitives import Array, Drop

_U64, _U32 = (1 << 64) - 1, np.uint32


class Dropout:
    """What is dropped in one pass through a network: each place in it has a mask of its own."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        """`share` of the values; all of it follows from one draw."""
        self._share, self._key = share, int(rng.bit_generator.random_raw())

    def at(self, place: int) -> Drop:
        """The mask of a place, by its number."""
        return Drop(self._share, _mixed(self._key + (place + 1) * 0x9E3779B97F4A7C15))


def dropout(x: Array, drop: Drop | None, plus: Array | None = None) -> Array:
    """What is left of x (N, C), and `plus` added to it. What is kept is divided by its share, so that a sum stays the
    same on average; it is its own backward pass."""
    y: Array = x.copy() if drop is None else x * factors(drop, range(len(x)), x.shape[1]).astype(x.dtype)
    if plus is not None:
        y += plus
    return y


def factors(drop: Drop, rows: range | list[int], n_columns: int) -> NDArray[np.float64]:
    """(rows, n_columns): what the values of rows of these numbers are multiplied by, 0 or drop.scale."""
    keys = np.array([_mixed(drop.key + row) for row in rows], np.uint64)[:, None]
    low, high = keys.astype(_U32), (keys >> np.uint64(32)).astype(_U32)
    x: NDArray[Any] = np.arange(n_columns, dtype=_U32) * _U32(0x9E3779B9) + low
    x = (x ^ (x >> _U32(16))) * _U32(0x7FEB352D)
    x = ((x ^ (x >> _U32(15))) + high) * _U32(0x846CA68B)
    x ^= x >> _U32(16)
    return np.where(x < _U32(drop.threshold), 0.0, drop.scale)


def attention_factors(drop: Drop, heads: range, n_token: int) -> NDArray[np.float64]:
    """(heads, T, T): those of the probabilities of heads of these numbers, which are counted through all sequences."""
    rows = [(head << 32) + query for head in heads for query in range(n_token)]
    return factors(drop, rows, n_token).reshape(len(heads), n_token, n_token)


def of_rows(drop: Drop, head: int, query: int) -> Drop:
    """What is head 0 and query 0 for this mask of probabilities has these numbers in the one that is given."""
    return drop._replace(key=drop.key + (head << 32) + query & _U64)


def _mixed(x: int) -> int:
    """The finaliser of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x &= _U64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _U64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _U64
    return x ^ (x >> 31)
