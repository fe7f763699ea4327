"""The layers of a GPT, forward and backward, in plain NumPy, written to be read.

Each forward function is a formula of `pygpt.reference`, for a batch; below it stands its backward function: given the
loss's gradient with respect to the outputs (a name with d before it), it returns the gradient with respect to the
inputs and adds those with respect to the parameters to the arrays it is given, so that the gradients of several
batches add up. `pygpt.training.kernels` has the same functions, with the same names, on the compiled core.

Names of sizes in the shape comments:

    B  sequences in the batch                 H  query heads
    T  tokens in a sequence                   K  key and value heads, H is a multiple of K
    N  B T: tokens in the batch, row n is     D  width of one head
       token n % T of sequence n // T         I, O  inputs and outputs of a matrix
    C  width of the model                     V  tokens in the vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from pygpt import reference
from pygpt.config import Activation
from pygpt.training.primitives import Array, Heads, Ids, Update

_CHUNK = 1 << 20  # logits that exist at once
_SCORES = 1 << 16  # the same for attention's scores, but for those of a single sequence
_PIECE = 1 << 14  # values that a formula of many steps takes at a time: what is between the steps stays in a cache


# Matrix products.


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """x (N, I) times weight (O, I) transposed, plus bias (O,): (N, O)."""
    y: Array = x @ weight.T
    if bias is not None:
        y += bias
    return y


def linear_backward(dy: Array, x: Array, weight: Array, dweight: Array, dbias: Array | None) -> Array:
    """dy (N, O) gives dx (N, I) and adds to dweight (O, I) and dbias (O,)."""
    dweight += dy.T @ x
    if dbias is not None:
        dbias += dy.sum(axis=0)
    dx: Array = dy @ weight
    return dx


# Norms. `stats` holds what the backward pass would otherwise compute again.


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array]:
    """x (N, C) with mean 0 and variance 1 a row (Ba et al. 2016, arXiv:1607.06450), and each row's mean and 1 / its
    standard deviation, (N, 2)."""
    mean = x.mean(axis=1, keepdims=True)
    y: Array = x - mean
    scale = 1.0 / np.sqrt(np.square(y).mean(axis=1, keepdims=True) + x.dtype.type(eps))
    y *= scale
    y *= weight
    y += bias
    return y, np.concatenate((mean, scale), axis=1)


def layer_norm_backward(dy: Array, x: Array, weight: Array, stats: Array, dweight: Array, dbias: Array) -> Array:
    """dy (N, C) gives dx (N, C) and adds to dweight and dbias (C,).

    With n the normed row: dx = (dn - mean(dn) - n mean(dn n)) / std, since moving all values alike or stretching them
    changes nothing.
    """
    normed = (x - stats[:, :1]) * stats[:, 1:]
    dweight += np.einsum("nc,nc->c", dy, normed)
    dbias += dy.sum(axis=0)
    dx: Array = dy * weight
    along = np.einsum("nc,nc->n", dx, normed)[:, None] / x.shape[1]
    dx -= dx.mean(axis=1, keepdims=True)
    normed *= along
    dx -= normed
    dx *= stats[:, 1:]
    return dx


def rms_norm(x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """x (N, C) with root mean square 1 a row (Zhang and Sennrich 2019, arXiv:1910.07467), and each row's factor,
    (N, 1)."""
    scale = 1.0 / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + x.dtype.type(eps))
    y: Array = x * scale
    y *= weight
    return y, scale


def rms_norm_backward(dy: Array, x: Array, weight: Array, stats: Array, dweight: Array) -> Array:
    """dy (N, C) gives dx (N, C) and adds to dweight (C,): as `layer_norm_backward`, without the mean."""
    normed = x * stats
    dweight += np.einsum("nc,nc->c", dy, normed)
    dx: Array = dy * weight
    normed *= np.einsum("nc,nc->n", dx, normed)[:, None] / x.shape[1]
    dx -= normed
    dx *= stats
    return dx


# Activations, element by element.


def activation(name: Activation, x: Array) -> Array:
    """f(x), of x's shape."""
    return _by_pieces(reference.ACTIVATIONS[name], x)


def activation_backward(name: Activation, dy: Array, x: Array) -> Array:
    """dy times the derivative of f at x."""
    return _by_pieces(lambda dy, x: dy * _derivative(name, x), dy, x)


def gated_activation(name: Activation, gate_up: Array) -> Array:
    """f(gate) * up for gate_up (N, 2 I), the gate before what it gates: (N, I) (Shazeer 2020, arXiv:2002.05202)."""
    gate, up = np.split(gate_up, 2, axis=1)
    return _by_pieces(lambda gate, up: reference.gated(name, gate, up), gate, up)


def gated_activation_backward(name: Activation, dy: Array, gate_up: Array) -> Array:
    """dy (N, I) gives the gradient of gate_up (N, 2 I)."""
    gate, up = np.split(gate_up, 2, axis=1)
    if name == "swiglu_clamped":  # g s(a g) (u + 1) with the logistic function s, where clamping has the slopes 1 and 0
        g, u, a = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0), 1.702
        opened = reference.silu(a * g) / a
        dgate = dy * (u + 1.0) * _derivative("silu", a * g) * (gate <= 7.0)
        return np.concatenate((dgate, dy * opened * (np.abs(up) <= 7.0)), axis=1)
    return np.concatenate((dy * up * _derivative(name, gate), dy * activation(name, gate)), axis=1)


def _by_pieces(f: Callable[..., Array], *arrays: Array) -> Array:
    """f of contiguous arrays of one shape, element by element."""
    out = np.empty_like(arrays[0])
    flat, flat_out = [a.reshape(-1) for a in arrays], out.reshape(-1)
    for at in range(0, out.size, _PIECE):
        flat_out[at : at + _PIECE] = f(*(a[at : at + _PIECE] for a in flat))
    return out


def _derivative(name: Activation, x: Array) -> Array:
    if name == "gelu_tanh":
        slope = math.sqrt(2.0 / math.pi)
        square = np.square(x)
        t: Array = np.tanh(slope * x * (1.0 + 0.044715 * square))
        inner: Array = x * (1.0 + 3.0 * 0.044715 * square)
        inner *= slope * (1.0 - np.square(t))
        t += 1.0
        t += inner
        t *= 0.5
        return t
    if name == "gelu":  # x cdf(x): its derivative is the cdf + x times the density
        cdf: Array = 0.5 * (1.0 + reference.erf(x / math.sqrt(2.0)))
        return cdf + x * np.exp(-0.5 * np.square(x)) / math.sqrt(2.0 * math.pi)
    if name == "silu":
        e = np.exp(-np.abs(x))
        logistic = np.where(x >= 0.0, 1.0, e) / (1.0 + e)
        return logistic * (1.0 + x * (1.0 - logistic))
    return (x > 0.0).astype(x.dtype)


# Attention. q, k and v come as one matrix: each row holds a token's H queries, K keys and K values of D numbers.


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
    """Causal attention (Vaswani et al. 2017, arXiv:1706.03762) within each sequence of qkv (N, (H + 2 K) D).

    Gives the mixed values (N, H D), and for each query the logarithm of the sum of its exponentials, (B, H, T). A few
    sequences at a time, as `attention_backward`, so that the scores (B, H, T, T) never exist as a whole.
    """
    n_rows, n_all = len(qkv), heads.n_head + 2 * heads.n_kv_head
    out = np.empty((n_rows, qkv.shape[1] // n_all * heads.n_head), qkv.dtype)
    lse = np.empty((heads.n_batch, heads.n_head, n_rows // max(heads.n_batch, 1)), qkv.dtype)
    for some, rows, part in _sequences(qkv, heads):
        q, k, v = _split(qkv[rows], part)
        scores = _causal_scores(q, k, heads.scale)  # (B, K, H / K, T, T)
        top = scores.max(axis=-1, keepdims=True)
        scores -= top
        p = np.exp(scores, out=scores)
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        if part.keep is not None:
            p *= part.keep.reshape(p.shape)
            p *= heads.keep_scale
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
        p = _causal_scores(q, k, heads.scale)
        p -= lse[some].reshape(*p.shape[:-1], 1)
        np.exp(p, out=p)
        dp = do @ v[:, :, None].swapaxes(-1, -2)
        kept = p
        if part.keep is not None:
            factor = part.keep.reshape(p.shape) * p.dtype.type(heads.keep_scale)
            kept = p * factor
            dp *= factor
        dv = (kept.swapaxes(-1, -2) @ do).sum(axis=2)  # over the query heads that share a key and value head
        dp -= along.swapaxes(1, 2).reshape(*p.shape[:-1], 1)
        dp *= p
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
        keep = None if heads.keep is None else heads.keep[some]
        rows = slice(some.start * n_token, some.stop * n_token)
        yield some, rows, heads._replace(n_batch=some.stop - some.start, keep=keep)


def _split(qkv: Array, heads: Heads) -> tuple[Array, Array, Array]:
    """Views of q (B, K, H / K, T, D), k and v (B, K, T, D)."""
    n_batch, n_head, n_kv_head = heads[:3]
    n_all = n_head + 2 * n_kv_head
    all_heads = qkv.reshape(n_batch, -1, n_all, qkv.shape[1] // n_all).transpose(0, 2, 1, 3)  # (B, H + 2 K, T, D)
    q, k, v = np.split(all_heads, (n_head, n_head + n_kv_head), axis=1)
    return q.reshape(n_batch, n_kv_head, n_head // n_kv_head, *q.shape[2:]), k, v


def _causal_scores(q: Array, k: Array, scale: float) -> Array:
    """(B, K, H / K, T, T): each query against each key; -inf where the key comes later."""
    scores: Array = q @ k[:, :, None].swapaxes(-1, -2)
    scores *= scale
    scores += np.triu(np.full(scores.shape[-2:], -np.inf, scores.dtype), 1)
    return scores


def _rows(heads: Array) -> Array:
    """(B, K, G, T, D) as (N, K G D): the heads of a token side by side."""
    n_batch, n_kv_head, n_group, n_token, head_dim = heads.shape
    rows: Array = heads.transpose(0, 3, 1, 2, 4).reshape(n_batch * n_token, n_kv_head * n_group * head_dim)
    return rows


# The two ends of the model.


def embedding_backward(dx: Array, ids: Ids, dweight: Array) -> None:
    """Add each row of dx (N, C) to the row of dweight (V, C) that its id (N,) took."""
    np.add.at(dweight, ids, dx)


def cross_entropy(
    hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None
) -> tuple[float, Array | None]:
    """The head and the loss: the sum of -log p(target) in nats, p = softmax(hidden weight^T) for each row of hidden
    (N, C), over the targets (N,) >= 0; and, unless dweight is None, the gradient of `scale` times that sum.

    The gradient of the logits is p less 1 at the target. It adds to dweight (V, C) and gives dhidden (N, C). Rows are
    taken a few at a time, so that the logits (N, V) never exist as a whole.
    """
    n_rows = max(1, _CHUNK // len(weight))
    total, dhidden = 0.0, None if dweight is None else np.empty_like(hidden)
    for at in range(0, len(hidden), n_rows):
        rows = slice(at, at + n_rows)
        counted = targets[rows] >= 0
        chosen = np.arange(len(counted)), np.maximum(targets[rows], 0)
        logits: Array = hidden[rows] @ weight.T
        logits -= logits.max(axis=1, keepdims=True)
        score = logits[chosen]
        p = np.exp(logits, out=logits)
        sums = p.sum(axis=1)
        total += float(np.sum((np.log(sums) - score)[counted], dtype=np.float64))
        if dweight is None or dhidden is None:
            continue
        p *= (scale * counted / sums).astype(p.dtype)[:, None]
        p[chosen] -= p.dtype.type(scale) * counted
        dweight += p.T @ hidden[rows]
        dhidden[rows] = p @ weight
    return total, dhidden


# The optimiser's passes over all values.


def sum_of_squares(x: Array) -> float:
    """The sum of x^2 over a flat array, in float64."""
    parts = (x[at : at + _PIECE].astype(np.float64) for at in range(0, len(x), _PIECE))
    return math.fsum(float(part @ part) for part in parts)


def adamw(params: Array, grads: Array, m: Array, v: Array, update: Update) -> None:
    """One step of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) on flat arrays, in place.

    m and v are the running means of the gradients and of their squares. The gradients are multiplied by grad_scale
    first. Decay takes learning_rate * weight_decay of each value, apart from its gradient.
    """
    u = update
    size = u.learning_rate / (1.0 - u.beta1**u.step)
    unbias = 1.0 / math.sqrt(1.0 - u.beta2**u.step)
    for at in range(0, len(params), _PIECE):
        part = slice(at, at + _PIECE)
        g = grads[part] * u.grad_scale
        m[part] *= u.beta1
        m[part] += (1.0 - u.beta1) * g
        v[part] *= u.beta2
        v[part] += (1.0 - u.beta2) * np.square(g)
        params[part] *= 1.0 - u.learning_rate * u.weight_decay
        params[part] -= size * m[part] / (np.sqrt(v[part]) * unbias + u.eps)
