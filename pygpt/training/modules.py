"""What the parts of a network are made of: norms, matrices and dropout, each with its backward pass.

They read their values from `Parameters` by name and add gradients to others by the same names.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pygpt.config import ModelConfig
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Array, Mask, Primitives

Rng = np.random.Generator | None


class Normed(NamedTuple):
    """What a norm keeps: its input (N, C), and each row's statistics."""

    x: Array
    stats: Array


class Modules:
    """Modules of a model, forward and backward. Holds no values."""

    def __init__(self, config: ModelConfig, primitives: Primitives, dropout: float) -> None:
        """`dropout`: the share of values that `dropped` sets to 0 whenever a generator is given."""
        self.config, self.primitives, self.dropout = config, primitives, dropout

    def norm(self, params: Parameters, x: Array, name: str) -> tuple[Array, Normed]:
        """The model's norm of x (N, C)."""
        if self.config.norm == "rms_norm":
            return self.rms_norm(params, x, name)
        weight, bias = params.tensors[f"{name}.weight"], params.tensors[f"{name}.bias"]
        y, stats = self.primitives.layer_norm(x, weight, bias, self.config.norm_eps)
        return y, Normed(x, stats)

    def norm_backward(self, params: Parameters, grads: Parameters, dy: Array, tape: Normed, name: str) -> Array:
        """The gradient of what `norm` read."""
        if self.config.norm == "rms_norm":
            return self.rms_norm_backward(params, grads, dy, tape, name)
        weight, dweight = params.tensors[f"{name}.weight"], grads.tensors[f"{name}.weight"]
        dbias = grads.tensors[f"{name}.bias"]
        return self.primitives.layer_norm_backward(dy, tape.x, weight, tape.stats, dweight, dbias)

    def rms_norm(self, params: Parameters, x: Array, name: str) -> tuple[Array, Normed]:
        """RMS norm of rows as wide as the weight."""
        y, stats = self.primitives.rms_norm(x, params.tensors[f"{name}.weight"], self.config.norm_eps)
        return y, Normed(x, stats)

    def rms_norm_backward(self, params: Parameters, grads: Parameters, dy: Array, tape: Normed, name: str) -> Array:
        """The gradient of what `rms_norm` read."""
        weight, dweight = params.tensors[f"{name}.weight"], grads.tensors[f"{name}.weight"]
        return self.primitives.rms_norm_backward(dy, tape.x, weight, tape.stats, dweight)

    def linear(self, params: Parameters, x: Array, *modules: str) -> Array:
        """x (N, I) times the matrices of modules that share their input, side by side."""
        weight, bias = _matrix(params, modules)
        return self.primitives.linear(x, weight, bias)

    def linear_backward(self, params: Parameters, grads: Parameters, dy: Array, x: Array, *modules: str) -> Array:
        """The gradient of what `linear` read, x."""
        weight, _ = _matrix(params, modules)
        dweight, dbias = _matrix(grads, modules)
        return self.primitives.linear_backward(dy, x, weight, dweight, dbias)

    # Dropout: what is kept is divided by its share, so that the sum stays the same on average.

    @property
    def keep_scale(self) -> float:
        """The factor on what is kept."""
        return 1.0 / (1.0 - self.dropout)

    def mask(self, shape: tuple[int, ...], rng: Rng) -> Mask | None:
        """1 for what stays; None where nothing is dropped."""
        if rng is None or self.dropout == 0.0:
            return None
        size = math.prod(shape)
        drawn = np.asarray(rng.bit_generator.random_raw(-(-size // 4)), "<u8").view("<u2")[:size]
        return (drawn >= round(self.dropout * (1 << 16))).view(np.uint8).reshape(shape)

    def drop(self, x: Array, rng: Rng) -> Mask | None:
        """Drop values of x (N, C) in place; the mask."""
        keep = self.mask(x.shape, rng)
        if keep is not None:
            self.dropped(x, keep)
        return keep

    def dropped(self, x: Array, keep: Mask) -> Array:
        """x (N, C), of which what was dropped is 0 now."""
        x *= keep
        x *= self.keep_scale
        return x


def _matrix(params: Parameters, modules: tuple[str, ...]) -> tuple[Array, Any]:
    """The weight and the bias, or None, of modules that share their input, one after the other."""
    weight = params.stacked(tuple(f"{m}.weight" for m in modules))
    assert weight is not None
    return weight, params.stacked(tuple(f"{m}.bias" for m in modules))
