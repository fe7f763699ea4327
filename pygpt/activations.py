"""The activations of an MLP in plain NumPy, a part of `pygpt.reference`: the only thing in an MLP that is not linear.

All work element by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)  # for an integral from -1 to 1
_NODES, _NODE_WEIGHTS = (_NODES + 1.0) / 2.0, _NODE_WEIGHTS / 2.0  # from 0 to 1


def erf(x: Array) -> Array:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    With t = x s, that is x times the integral of exp(-(x s)^2) over s from 0 to 1, which is summed by the rule of Gauss
    and Legendre with 32 nodes. Beyond |x| = 6, erf is 1 to the last bit of a float64. In float64 the error is below
    1e-14 of erf(x), most of it from the weights as NumPy computes them.
    """
    a = np.minimum(np.abs(x), 6.0)
    total = np.zeros_like(a)
    for s, weight in zip(_NODES.tolist(), _NODE_WEIGHTS.tolist(), strict=True):
        total += weight * np.exp(-np.square(a * s))
    return np.copysign(np.minimum(2.0 / math.sqrt(math.pi) * a * total, 1.0), x)


def gelu(x: Array) -> Array:
    """x times the share of a standard normal distribution below x (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU, from section 2 of the same paper; the one that GPT-2 was trained with."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def sigmoid(x: Array) -> Array:
    """The logistic function, 1 / (1 + exp(-x)) = exp(x) / (1 + exp(x))."""
    e: Array = np.exp(-np.abs(x))  # never overflows
    share: Array = np.where(x >= 0.0, 1.0, e) / (1.0 + e)
    return share


def silu(x: Array) -> Array:
    """x times the logistic function of x, also called swish (Ramachandran et al. 2017, arXiv:1710.05941)."""
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    """x where it is positive, else 0."""
    return np.maximum(x, 0.0)


def swiglu_clamped(gate: Array, up: Array) -> Array:
    """gpt-oss's gated activation: large values are cut off, and a gate multiplies 1 more than what it gates (Agarwal et
    al. 2025, arXiv:2508.10925)."""
    gate, up = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
    return gate * sigmoid(1.702 * gate) * (up + 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu, "relu": relu}


def gated(activation: str, gate: Array, up: Array) -> Array:
    """The inner values of an MLP with a gate, from its two products (T, n_inner)."""
    if activation == "swiglu_clamped":
        return swiglu_clamped(gate, up)
    return ACTIVATIONS[activation](gate) * up
