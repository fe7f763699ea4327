"""Attention in plain NumPy, forward and backward; `pygpt.training.functions` has the names of sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygpt.training.dropout import attention_factors
from pygpt.training.primitives import Array, Heads

_SCORES = 1 << 16  # that exist at once, but for those of a single sequence

# q, k and v come as one matrix: each row holds a token's H queries, K keys and K values of D numbers.


def rope(qkv: Array, n_heads: int, head_dim: int, cos: Array, sin: Array, interleaved: bool, inverse: bool) -> None:
    """Turn the first `n_heads` heads of each row of qkv in place, as `reference.rope` does; cos and sin (T, dim / 2).

    A turn's transpose is the turn back, so `inverse` is the backward pass.
    """
    n_token, half = cos.shape
    heads = qkv.reshape(-1, n_token, qkv.shape[1] // head_dim, head_dim)[:, :, :n_heads]  # a view
    first = heads[..., 0 : 2 * half : 2] if interleaved else heads[..., :half]
    second = heads[..., 1 : 2 * half : 2] if interleaved else heads[..., half : 2 * half]
    c, s = cos[:, None], (-sin if inverse else sin)[:, None]
    turned = first * c - second * s
    second[...] = second * c + first * s
    first[...] = turned


def attention(qkv: Array, heads: Heads) -> tuple[Array, Array]:
    """Causal attention (Vaswani et al. 2017, arXiv:1706.03762) within each sequence of qkv (N, (H + 2 K) D), with
    scores by the rules of `heads`.

    Gives the mixed values (N, H D), and for each query the logarithm of the sum of its exponentials, (B, H, T). A few
    sequences at a time, as `attention_backward`, so that the scores (B, H, T, T) never exist as a whole.
    """
    n_rows, n_all = len(qkv), heads.n_head + 2 * heads.n_kv_head
    out = np.empty((n_rows, qkv.shape[1] // n_all * heads.n_head), qkv.dtype)
    lse = np.empty((heads.n_batch, heads.n_head, n_rows // max(heads.n_batch, 1)), qkv.dtype)
    for some, rows, part in _sequences(qkv, heads):
        q, k, v = _split(qkv[rows], part)
        scores, _ = _causal_scores(q, k, part)  # (B, K, H / K, T, T)
        top = scores.max(axis=-1, keepdims=True)
        scores -= top
        p = np.exp(scores, out=scores)
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        if heads.drop is not None:
            p *= _kept(heads, some, p)
        out[rows] = _rows(p @ v[:, :, None])
        lse[some] = (top + np.log(total)).reshape(part.n_batch, heads.n_head, -1)
    return out, lse


def attention_backward(dout: Array, qkv: Array, out: Array, lse: Array, heads: Heads) -> Array:
    """dout (N, H D) gives dqkv (N, (H + 2 K) D); the other arguments as `attention` took and returned them.

    The probabilities are computed again from lse (Dao et al. 2022, arXiv:2205.14135), so they need no memory between.
    Softmax's gradient is p (dp - sum(p dp)), and sum(p dp) over the keys of a query is its dout . out.
    """
    dqkv = np.empty_like(qkv)
    for some, rows, part in _sequences(qkv, heads):
        q, k, v = _split(qkv[rows], part)
        by_head = (part.n_batch, -1, heads.n_head, q.shape[-1])  # (B, T, H, D)
        do = dout[rows].reshape(by_head).swapaxes(1, 2).reshape(q.shape)  # (B, K, H / K, T, D)
        along = (dout[rows] * out[rows]).reshape(by_head).sum(axis=-1)  # (B, T, H)
        p, slope = _causal_scores(q, k, part)
        p -= lse[some].reshape(*p.shape[:-1], 1)
        np.exp(p, out=p)
        dp = do @ v[:, :, None].swapaxes(-1, -2)
        kept = p
        if heads.drop is not None:
            factor = _kept(heads, some, p)
            kept = p * factor
            dp *= factor
        dv = (kept.swapaxes(-1, -2) @ do).sum(axis=2)  # over the query heads that share a key and value head
        dp -= along.swapaxes(1, 2).reshape(*p.shape[:-1], 1)
        dp *= p
        if slope is not None:
            dp *= slope
        dp *= heads.scale
        dq = dp @ k[:, :, None]
        dk = (dp.swapaxes(-1, -2) @ q).sum(axis=2)
        dqkv[rows] = np.concatenate((_rows(dq), _rows(dk[:, :, None]), _rows(dv[:, :, None])), axis=1)
    return dqkv


def _sequences(qkv: Array, heads: Heads) -> Iterator[tuple[slice, slice, Heads]]:
    """A few sequences at a time: which they are, their rows, and their heads."""
    n_token = len(qkv) // max(heads.n_batch, 1)
    n = max(1, _SCORES // max(heads.n_head * n_token**2, 1))
    for at in range(0, heads.n_batch, n):
        some = slice(at, min(at + n, heads.n_batch))
        rows = slice(some.start * n_token, some.stop * n_token)
        yield some, rows, heads._replace(n_batch=some.stop - some.start)


def _kept(heads: Heads, some: slice, p: Array) -> Array:
    """The factors of dropout on the probabilities (B, K, H / K, T, T) of some sequences."""
    assert heads.drop is not None
    numbers = range(some.start * heads.n_head, some.stop * heads.n_head)
    return attention_factors(heads.drop, numbers, p.shape[-1]).astype(p.dtype).reshape(p.shape)


def _split(qkv: Array, heads: Heads) -> tuple[Array, Array, Array]:
    """Views of q (B, K, H / K, T, D), k and v (B, K, T, D)."""
    n_batch, n_head, n_kv_head = heads[:3]
    n_all = n_head + 2 * n_kv_head
    all_heads = qkv.reshape(n_batch, -1, n_all, qkv.shape[1] // n_all).transpose(0, 2, 1, 3)  # (B, H + 2 K, T, D)
    q, k, v = np.split(all_heads, (n_head, n_head + n_kv_head), axis=1)
    return q.reshape(n_batch, n_kv_head, n_head // n_kv_head, *q.shape[2:]), k, v


def _causal_scores(q: Array, k: Array, heads: Heads) -> tuple[Array, Array | None]:
    """(B, K, H / K, T, T): each query against each key, -inf where it does not see it; and the slope of the cap."""
    scores: Array = q @ k[:, :, None].swapaxes(-1, -2)
    scores *= heads.scale
    slope = cap(scores, heads.cap)
    positions = np.arange(scores.shape[-1])
    distance = positions[:, None] - positions  # (T, T), from the key on to the query
    if heads.slopes is not None:
        scores -= heads.slopes.reshape(*scores.shape[1:3], 1, 1) * distance.astype(scores.dtype)
    hidden = distance < 0
    if heads.window:
        hidden |= distance >= heads.window
    np.copyto(scores, -np.inf, where=hidden)
    return scores, slope


def _rows(heads: Array) -> Array:
    """(B, K, G, T, D) as (N, K G D): the heads of a token side by side."""
    n_batch, n_kv_head, n_group, n_token, head_dim = heads.shape
    rows: Array = heads.transpose(0, 3, 1, 2, 4).reshape(n_batch * n_token, n_kv_head * n_group * head_dim)
    return rows


def cap(x: Array, limit: float) -> Array | None:
    """Make limit tanh(x / limit) of x in place; the slope of that, 1 - tanh^2, or None for a limit of 0: none."""
    if limit == 0.0:
        return None
    x /= limit
    np.tanh(x, out=x)
    slope: Array = 1.0 - np.square(x)
    x *= limit
    return slope


# Sinks: scores without a value, one for each head, that join the softmax (gpt-oss, arXiv:2508.10925).


def join_sinks(out: Array, lse: Array, sinks: Array) -> None:
    """Make of what `attention` returned, in place, what it is with sinks (H,) among the scores: each query's sum of
    exponentials grows by that of the sink, and its weights lose as much. By NumPy also beside the compiled core: of the
    families that have sinks none is trained, since they have experts."""
    total = np.logaddexp(lse, sinks[:, None])  # (B, H, T)
    share = np.exp(lse - total).swapaxes(1, 2).reshape(-1, 1)  # (N H, 1)
    out.reshape(len(share), -1)[...] *= share
    lse[...] = total


def sinks_backward(dout: Array, out: Array, lse: Array, sinks: Array, dsinks: Array) -> None:
    """dout (N, H D) adds to dsinks (H,). A sink's probability p has no value, so that softmax's gradient, p (dp - sum(p
    dp)), is -p (dout . out). `attention_backward` takes the same out and lse, and needs no sinks."""
    n_batch, n_head, n_token = lse.shape
    along = (dout * out).reshape(n_batch, n_token, n_head, -1).sum(axis=-1)  # (B, T, H)
    dsinks -= np.einsum("bht,bth->h", np.exp(sinks[:, None] - lse), along)
