"""What the parts of a network are made of: norms and matrices, each with its backward pass.

They read their values from `Parameters` by name and add gradients to others by the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pygpt.config import ModelConfig
from pygpt.training.parameters import Adapter, FlatTensors, Parameters
from pygpt.training.primitives import Array, Primitives


class Normed(NamedTuple):
    """What a norm keeps: its input (N, C), and each row's statistics."""

    x: Array
    stats: Array


class Modules:
    """Modules of a model, forward and backward. Holds no values."""

    def __init__(self, config: ModelConfig, primitives: Primitives) -> None:
        self.config, self.primitives = config, primitives

    def norm(self, params: Parameters, x: Array, name: str) -> tuple[Array, Normed]:
        """The model's norm of x (N, C)."""
        if self.config.norm == "rms_norm":
            return self.rms_norm(params, x, name)
        weight, bias = params.tensors[f"{name}.weight"], params.tensors[f"{name}.bias"]
        y, stats = self.primitives.layer_norm(x, weight, bias, self.config.norm_eps)
        return y, Normed(x, stats)

    def norm_backward(self, params: Parameters, grads: FlatTensors, dy: Array, tape: Normed, name: str) -> Array:
        """The gradient of what `norm` read."""
        if self.config.norm == "rms_norm":
            return self.rms_norm_backward(params, grads, dy, tape, name)
        weight = params.tensors[f"{name}.weight"]
        dweight, dbias = (grads.of(f"{name}.{part}", weight) for part in ("weight", "bias"))
        return self.primitives.layer_norm_backward(dy, tape.x, weight, tape.stats, dweight, dbias)

    def rms_norm(self, params: Parameters, x: Array, name: str) -> tuple[Array, Normed]:
        """RMS norm of rows as wide as the weight."""
        y, stats = self.primitives.rms_norm(x, params.tensors[f"{name}.weight"], self.config.norm_eps)
        return y, Normed(x, stats)

    def rms_norm_backward(self, params: Parameters, grads: FlatTensors, dy: Array, tape: Normed, name: str) -> Array:
        """The gradient of what `rms_norm` read."""
        weight = params.tensors[f"{name}.weight"]
        dweight = grads.of(f"{name}.weight", weight)
        return self.primitives.rms_norm_backward(dy, tape.x, weight, tape.stats, dweight)

    def linear(self, params: Parameters, x: Array, *modules: str) -> Array:
        """x (N, I) times the matrices of modules that share their input, side by side."""
        weight, bias = _matrix(params, modules)
        return self.primitives.linear(x, weight, bias)

    def linear_backward(
        self, params: Parameters, grads: FlatTensors, dy: Array, read: Callable[[], Array], *modules: str
    ) -> Array:
        """The gradient of what `linear` read. `read` gives that again: frozen matrices do not ask for it."""
        weight, _ = _matrix(params, modules)
        dweight, dbias = _matrix(grads, modules)
        adapted = any(f"{module}.weight" in grads.adapters for module in modules)
        x = read() if adapted or dweight is not None else None
        dx = self.primitives.linear_backward(dy, x, weight, dweight, dbias)
        column = 0
        for module in modules:
            first, column = column, column + len(params.tensors[f"{module}.weight"])
            adapter = grads.adapters.get(f"{module}.weight")
            if x is not None and adapter is not None:
                self._adapter_backward(np.ascontiguousarray(dy[:, first:column]), x, adapter)
        return dx

    def _adapter_backward(self, dy: Array, x: Array, adapter: Adapter) -> None:
        """Of s B A, whose product with x is in what dy (N, O) is the gradient of: dB = s dy^T (x A^T) and dA = s (dy
        B)^T x, without a matrix (O, I)."""
        a, b, da, db, scale = adapter
        dlow = self.primitives.linear_backward(dy, self.primitives.linear(x, a, None) * scale, b, db, None)
        self.primitives.linear_backward(dlow * scale, x, a, da, None)


def _matrix(params: FlatTensors, modules: tuple[str, ...]) -> tuple[Any, Any]:
    """The weight and the bias, or None, of modules that share their input, one after the other."""
    weight = params.stacked(tuple(f"{m}.weight" for m in modules))
    return weight, params.stacked(tuple(f"{m}.bias" for m in modules))
