"""The functions that a network is trained with: the interface that NumPy and the compiled core share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pygpt.config import Activation

Array = NDArray[np.floating[Any]]
Ids = NDArray[np.int32]
Mask = NDArray[np.uint8]


class Primitives(Protocol):
    """A module or an object with these functions, whose docstrings are in `pygpt.training.functions`."""

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array: ...
    def linear_backward(self, dy: Array, x: Array, weight: Array, dweight: Array, dbias: Array | None) -> Array: ...
    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array]: ...
    def layer_norm_backward(
        self, dy: Array, x: Array, weight: Array, stats: Array, dweight: Array, dbias: Array
    ) -> Array: ...
    def rms_norm(self, x: Array, weight: Array, eps: float) -> tuple[Array, Array]: ...
    def rms_norm_backward(self, dy: Array, x: Array, weight: Array, stats: Array, dweight: Array) -> Array: ...
    def activation(self, name: Activation, x: Array) -> Array: ...
    def activation_backward(self, name: Activation, dy: Array, x: Array) -> Array: ...
    def gated_activation(self, name: Activation, gate_up: Array) -> Array: ...
    def gated_activation_backward(self, name: Activation, dy: Array, gate_up: Array) -> Array: ...
    def rope(
        self, qkv: Array, n_heads: int, head_dim: int, cos: Array, sin: Array, interleaved: bool, inverse: bool
    ) -> None: ...
    def attention(
        self,
        qkv: Array,
        n_batch: int,
        n_head: int,
        n_kv_head: int,
        scale: float,
        keep: Mask | None,
        keep_scale: float,
    ) -> tuple[Array, Array]: ...
    def attention_backward(
        self,
        dout: Array,
        qkv: Array,
        out: Array,
        lse: Array,
        n_batch: int,
        n_head: int,
        n_kv_head: int,
        scale: float,
        keep: Mask | None,
        keep_scale: float,
    ) -> Array: ...
    def embedding_backward(self, dx: Array, ids: Ids, dweight: Array) -> None: ...
    def cross_entropy(
        self, hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None
    ) -> tuple[float, Array | None]: ...
    def sum_of_squares(self, x: Array) -> float: ...
    def adamw(
        self,
        params: Array,
        grads: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        step: int,
        grad_scale: float,
    ) -> None: ...
