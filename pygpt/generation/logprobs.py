"""The log-probability of a token, and those of the likeliest ones at its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pygpt.generation.results import TokenLogprob

_BLOCK = 64  # log-probabilities that are compared first


def token_logprob(logprobs: NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """The token's log-probability out of all (n_vocab,), and the n_top largest: equal ones by id."""
    top: tuple[tuple[int, float], ...] = ()
    if n_top:
        ids = likeliest(logprobs, n_top)
        top = tuple(zip(ids.tolist(), logprobs[ids].tolist(), strict=True))
    return TokenLogprob(token, float(logprobs[token]), top)


def likeliest(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """The ids of the n highest of the scores (n_vocab,), the highest first; equal ones by id, and NaN last."""
    ids = np.flatnonzero(scores >= _bound(scores, n))
    if len(ids) < n:  # some are NaN, which no comparison finds
        ids = np.arange(len(scores))
    return ids[np.argsort(-scores[ids], kind="stable")][:n]


def _bound(logprobs: NDArray[np.float32], n: int) -> float:
    """At least n of the log-probabilities are no less than this, where there are so many; few are. It is the n-th
    largest of the maxima of blocks, which are found sooner than the n-th largest of all."""
    n_blocks = len(logprobs) // _BLOCK
    if n_blocks < n:
        return -np.inf
    # A block's are n_blocks apart, so that NumPy compares many blocks at once.
    maxima = logprobs[: n_blocks * _BLOCK].reshape(_BLOCK, n_blocks).max(axis=0)
    return float(np.partition(maxima, n_blocks - n)[n_blocks - n])
