"""Whether a list of merges has every way to split its tokens, as a list has that was made of tiktoken's ranks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

_FACTOR = 0x9E3779B97F4A7C15  # odd: it has an inverse
_HASH_BITS = 24


def code_points(strings: Sequence[str]) -> NDArray[np.uint32]:
    """Those of strings, one after the other."""
    return np.frombuffer("".join(strings).encode("utf-32-le", "surrogatepass"), np.uint32)


def has_all_splits(
    tokens: Sequence[str], parts: Collection[str], owners: NDArray[np.int64], n_left: NDArray[np.int64]
) -> bool:
    """Whether every split of one of the tokens into two of `parts` is listed: by the token's index, and the length of
    the left part. Only such splits may be listed.

    A hash of each part says which splits may be; the few of those that are not listed are looked at one by one.
    """
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    candidate = np.ones(lengths.sum(), bool)  # by the place where the right part begins
    candidate[starts] = False
    candidate[starts[owners] + n_left] = False
    at = np.flatnonzero(candidate)
    of = np.repeat(np.arange(len(tokens)), lengths)[at]
    known = np.zeros(1 << _HASH_BITS, bool)
    several = list(parts)
    sizes = np.fromiter(map(len, several), np.int64, len(several))
    stops = np.cumsum(sizes)
    known[_Hashes(several)(stops - sizes, stops)] = True
    hashes = _Hashes(tokens)
    for begin, end in ((starts, None), (None, ends)):
        likely = known[hashes(at if begin is None else begin[of], at if end is None else end[of])]
        at, of = at[likely], of[likely]
    for token, n in zip(map(tokens.__getitem__, of.tolist()), (at - starts[of]).tolist(), strict=True):
        if token[:n] in parts and token[n:] in parts:
            return False
    return True


class _Hashes:
    """Hashes of any parts of some strings one after the other: the same for the same characters."""

    def __init__(self, strings: Sequence[str]) -> None:
        data = code_points(strings)
        powers, inverses = np.ones((2, len(data) + 1), np.uint64)
        powers[1:], inverses[1:] = _FACTOR, pow(_FACTOR, -1, 1 << 64)
        terms = (data.astype(np.uint64) + np.uint64(1)) * np.cumprod(powers)[:-1]
        self._sums = np.append(np.zeros(1, np.uint64), np.cumsum(terms))
        self._inverses = np.cumprod(inverses)

    def __call__(self, begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = (self._sums[end] - self._sums[begin]) * self._inverses[begin] * np.uint64(_FACTOR)
        found >>= np.uint64(64 - _HASH_BITS)
        return found
