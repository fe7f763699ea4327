"""How well a model foretells a text: the log-probabilities of its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import ModelConfig
from pygpt.likelihood import Pair, scores

if TYPE_CHECKING:
    from pygpt.generation import Progress

_WINDOW_TOKENS = 2048  # that are read together


def score(engine: _core.Engine, tokens: NDArray[np.int32], first: int = 1) -> NDArray[np.float32]:
    """The natural log-probability of each of tokens[first:], given all before it; 1 <= first, at most n_ctx tokens.

    (T,) -> (T - first,). The logits are never whole in memory.
    """
    return scores(engine, [Pair(tokens, first)])[0][0] if len(tokens) > first else np.empty(0, np.float32)


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


def rolling(
    engine: _core.Engine, n_ctx: int, texts: Sequence[NDArray[np.int32]], prefix: int, progress: Progress | None = None
) -> list[float]:
    """The log-probability of all tokens of each text (T,), T >= 1, the first given the token `prefix`, in the harness's
    rolling windows: of n_ctx tokens that are read, one after the other, where the last is filled up with tokens before
    it. Each token counts once. `progress` is called with (texts that are done, of how many)."""
    windows = [(i, window) for i, text in enumerate(texts) for window in _windows(text, prefix, n_ctx)]
    sums: list[list[float]] = [[] for _ in texts]
    begin = 0
    while begin < len(windows):
        end, n = begin, 0
        while end < len(windows) and (end == begin or n + len(windows[end][1].tokens) <= _WINDOW_TOKENS):
            n += len(windows[end][1].tokens)
            end += 1
        batch = windows[begin:end]
        for (i, _), (logprobs, _) in zip(batch, scores(engine, [window for _, window in batch]), strict=True):
            sums[i] += logprobs.tolist()
        begin = end
        if progress is not None:
            progress(len(texts) if end == len(windows) else windows[end][0], len(texts))
    return [math.fsum(of_text) for of_text in sums]


def _windows(text: NDArray[np.int32], prefix: int, n_ctx: int) -> Iterator[Pair]:
    """Of n_ctx + 1 tokens at most, of which the first is never foretold."""
    tokens = np.concatenate([np.array([prefix], np.int32), text])
    for begin in range(1, len(tokens), n_ctx):
        end = min(begin + n_ctx, len(tokens))
        start = max(0, end - n_ctx - 1)
        yield Pair(tokens[start:end], begin - start)
