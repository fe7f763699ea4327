"""The hidden states of texts, and one vector a text made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pygpt import _core


def hidden_states(
    engine: _core.Engine, texts: Iterable[NDArray[np.int32]], max_tokens: int
) -> Iterator[NDArray[np.float32]]:
    """(T,) tokens -> (T, n_embd), the states after the final norm, of each text in turn: as many texts are computed
    together as have `max_tokens` tokens, or one."""
    group: list[NDArray[np.int32]] = []
    for tokens in texts:
        if group and sum(map(len, group)) + len(tokens) > max_tokens:
            yield from engine.forward([(engine.session(), t) for t in group], output="hidden")
            group = []
        group.append(tokens)
    if group:
        yield from engine.forward([(engine.session(), t) for t in group], output="hidden")


class Pooling:
    """The mean of hidden states over the tokens, divided by its Euclidean length; a mean of 0 stays 0.

    In float64 and in one order, rounded once at the end: the same bits on every machine, and however the tokens come.
    """

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self._n = 0

    def add(self, states: NDArray[np.float32]) -> None:
        """(T, C): those of the next tokens."""
        if self._sum is None:
            self._sum = np.zeros(states.shape[1])
        for row in states:  # np.sum may choose its order by the machine
            self._sum += row
        self._n += len(states)

    def finish(self) -> NDArray[np.float32]:
        """(C,), once there is a token."""
        assert self._sum is not None
        mean = self._sum / self._n
        length = math.sqrt(math.fsum((mean * mean).tolist()))
        return (mean / length if length else mean).astype(np.float32)


def pooled(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, C) -> (C,): the `Pooling` of a whole text."""
    pooling = Pooling()
    pooling.add(states)
    return pooling.finish()
