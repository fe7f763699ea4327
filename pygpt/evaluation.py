"""How well a model foretells a text: the log-probabilities of its tokens."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import ModelConfig


def score(engine: _core.Engine, tokens: NDArray[np.int32], first: int = 1) -> NDArray[np.float32]:
    """The natural log-probability of each of tokens[first:], given all before it; 1 <= first, at most n_ctx tokens.

    (T,) -> (T - first,). The logits are never whole in memory.
    """
    session = engine.session()
    if first > 1:
        engine.forward([(session, tokens[: first - 1])], output="none")
    return engine.forward([(session, tokens[first - 1 :])], output="score")[0]


def mean_score(engine: _core.Engine, config: ModelConfig, tokens: NDArray[np.int32], stride: int | None) -> float:
    """The mean log-probability in nats of the tokens (T,) after the first, T >= 2, as `Model.perplexity` defines it.

    ValueError: fewer than 2 tokens, or a stride outside 1 to n_ctx - 1.
    """
    n_ctx = config.n_ctx
    if len(tokens) < 2:
        raise ValueError("perplexity needs at least 2 tokens")
    if stride is None:
        stride = max(1, n_ctx // 2)
    elif isinstance(stride, bool) or not isinstance(stride, Integral):
        raise TypeError(f"stride must be an integer or None, not {stride!r:.80}")
    elif not 1 <= stride < n_ctx:
        raise ValueError(f"stride must be from 1 to {n_ctx - 1}, less than the context, not {stride}")
    total, start, scored = 0.0, 0, 1
    while scored < len(tokens):
        window = tokens[start : start + n_ctx]
        total += math.fsum(score(engine, window, scored - start).tolist())
        scored = start + len(window)
        start += stride
    return total / (len(tokens) - 1)
