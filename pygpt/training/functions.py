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
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pygpt import reference
from pygpt.config import Activation
from pygpt.training.attention import attention, attention_backward, cap, rope
from pygpt.training.bfloat16 import rounded, widened
from pygpt.training.dropout import dropout
from pygpt.training.primitives import PLAIN, Array, Ids, Logits, Mean, Precision, Primitives, Update, head_backward

__all__ = [  # all of `Primitives`
    "activation",
    "activation_backward",
    "adamw",
    "attention",
    "attention_backward",
    "cross_entropy",
    "dropout",
    "embedding_backward",
    "gated_activation",
    "gated_activation_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "precision",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "sum_of_squares",
]

precision: Precision = "float32"  # NumPy's products have no other
_CHUNK = 1 << 20  # logits that exist at once
_THESE = cast(Primitives, sys.modules[__name__])
_PIECE = 1 << 14  # values that a formula of many steps takes at a time: what is between the steps stays in a cache


# Matrix products.


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """x (N, I) times weight (O, I) transposed, plus bias (O,): (N, O)."""
    y: Array = x @ weight.T
    if bias is not None:
        y += bias
    return y


def linear_backward(dy: Array, x: Array | None, weight: Array, dweight: Array | None, dbias: Array | None) -> Array:
    """dy (N, O) gives dx (N, I) and adds to dweight (O, I) and dbias (O,). A frozen weight has no dweight, and needs
    no x."""
    if dweight is not None and x is not None:
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


# The two ends of the model.


def embedding_backward(dx: Array, ids: Ids, dweight: Array) -> None:
    """Add each row of dx (N, C) to the row of dweight (V, C) that its id (N,) took."""
    np.add.at(dweight, ids, dx)


def _scale_and_cap(x: Array, logits: Logits) -> Array | None:
    """Make logits of x, the product with its bias, in place; the slope of that, or None where it is 1."""
    if logits.scale != 1.0:
        x *= logits.scale
    slope = cap(x, logits.cap)
    if logits.scale == 1.0:
        return slope
    return np.full((1, 1), logits.scale, x.dtype) if slope is None else slope * x.dtype.type(logits.scale)


def cross_entropy(
    hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None, logits: Logits = PLAIN
) -> tuple[float, Array | None]:
    """The head and the loss: the sum of -log p(target) in nats, p = softmax of the logits of each row of hidden (N, C),
    over the targets (N,) >= 0; and, unless dweight is None, the gradient of `scale` times that sum.

    The logits are what `logits` makes of hidden weight^T. Their gradient is p less 1 at the target. It adds to dweight
    (V, C) and to a bias's, and gives dhidden (N, C). Where dweight has fewer rows (R, C), they are those of the last R
    tokens, and the others are frozen. Rows are taken a few at a time, so that the logits (N, V) never exist as a whole.
    """
    n_rows = max(1, _CHUNK // len(weight))
    total, dhidden = 0.0, None if dweight is None else np.empty_like(hidden)
    for at in range(0, len(hidden), n_rows):
        rows = slice(at, at + n_rows)
        counted = targets[rows] >= 0
        chosen = np.arange(len(counted)), np.maximum(targets[rows], 0)
        scores = linear(hidden[rows], weight, logits.bias)
        slope = _scale_and_cap(scores, logits)
        scores -= scores.max(axis=1, keepdims=True)
        score = scores[chosen]
        p = np.exp(scores, out=scores)
        sums = p.sum(axis=1)
        total += float(np.sum((np.log(sums) - score)[counted], dtype=np.float64))
        if dweight is None or dhidden is None:
            continue
        p *= (scale * counted / sums).astype(p.dtype)[:, None]
        p[chosen] -= p.dtype.type(scale) * counted
        if slope is not None:
            p *= slope
        dhidden[rows] = head_backward(_THESE, p, hidden[rows], weight, dweight, logits.dbias)
    return total, dhidden


# The optimiser's passes over all values.


def sum_of_squares(x: Array) -> float:
    """The sum of x^2 over a flat array, in float64."""
    parts = (x[at : at + _PIECE].astype(np.float64) for at in range(0, len(x), _PIECE))
    return math.fsum(float(part @ part) for part in parts)


def adamw(params: Array, grads: Array, m: Mean, v: Array, update: Update) -> None:
    """One step of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) on flat arrays, in place.

    m and v are the running means of the gradients and of their squares. The gradients are multiplied by grad_scale
    first. Decay takes learning_rate * weight_decay of each value, apart from its gradient. An m of bfloat16's bits is
    rounded to them once params have taken their step.
    """
    u = update
    size = u.learning_rate / (1.0 - u.beta1**u.step)
    unbias = 1.0 / math.sqrt(1.0 - u.beta2**u.step)
    for at in range(0, len(params), _PIECE):
        part = slice(at, at + _PIECE)
        g = grads[part] * u.grad_scale
        mean: NDArray[Any] = widened(m[part]) if m.dtype == np.uint16 else m[part]
        mean *= u.beta1
        mean += (1.0 - u.beta1) * g
        v[part] *= u.beta2
        v[part] += (1.0 - u.beta2) * np.square(g)
        params[part] *= 1.0 - u.learning_rate * u.weight_decay
        params[part] -= size * mean / (np.sqrt(v[part]) * unbias + u.eps)
        if m.dtype == np.uint16:
            m[part] = rounded(mean)
