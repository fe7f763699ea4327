"""The functions that a network is trained with: the interface that NumPy and the compiled core share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pygpt.config import Activation

Array = NDArray[np.floating[Any]]
Ids = NDArray[np.int32]
Mean = Array | NDArray[np.uint16]
"""AdamW's mean gradient: numbers, or the bits of `pygpt.training.bfloat16`."""
Precision = Literal["float32", "bfloat16"]


class Drop(NamedTuple):
    """A dropout mask, `pygpt.training.dropout`."""

    share: float
    """Of the values, which become 0."""
    key: int
    """Below 2^64: the masks of two keys have nothing in common."""

    @property
    def threshold(self) -> int:
        """In 32 bits."""
        return min(round(self.share * 2.0**32), 2**32 - 1)

    @property
    def scale(self) -> float:
        """The factor on what is kept."""
        return 1.0 / (1.0 - self.share)


class Heads(NamedTuple):
    """How the rows of q, k and v are cut, and what attention does with the scores."""

    n_batch: int
    """Sequences, B."""
    n_head: int
    """Query heads, H."""
    n_kv_head: int
    """Key and value heads, K."""
    scale: float
    """The factor on the scores."""
    drop: Drop | None = None
    """Dropout of the probabilities."""
    window: int = 0
    """A query sees its own key and window - 1 before it; 0: all before it."""
    cap: float = 0.0
    """Scores become cap tanh(score / cap); 0: they stay as they are."""
    slopes: Array | None = None
    """(H,): a head's scores fall by its slope a position (Press et al. 2021, arXiv:2108.12409)."""


class Logits(NamedTuple):
    """What becomes of a head's product: (product + bias) * scale, then the cap."""

    scale: float = 1.0
    cap: float = 0.0
    """As that of scores."""
    bias: Array | None = None
    """(V,)"""
    dbias: Array | None = None
    """(V,), or of the last tokens alone (R,): its gradient is added to this, if there is one."""


PLAIN = Logits()


class Update(NamedTuple):
    """The numbers of one step of AdamW."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    step: int
    """Counted from 1."""
    grad_scale: float
    """The factor on the gradients."""


class Primitives(Protocol):
    """A module or an object with these functions, whose docstrings are in `pygpt.training.functions`."""

    @property
    def precision(self) -> Precision:
        """What factors of products are rounded to, and AdamW's mean gradient may be."""
        ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array: ...
    def linear_backward(
        self, dy: Array, x: Array | None, weight: Array, dweight: Array | None, dbias: Array | None
    ) -> Array: ...
    def dropout(self, x: Array, drop: Drop | None, plus: Array | None = None) -> Array: ...
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
    def attention(self, qkv: Array, heads: Heads) -> tuple[Array, Array]: ...
    def attention_backward(self, dout: Array, qkv: Array, out: Array, lse: Array, heads: Heads) -> Array: ...
    def embedding_backward(self, dx: Array, ids: Ids, dweight: Array) -> None: ...
    def cross_entropy(
        self, hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None, logits: Logits = PLAIN
    ) -> tuple[float, Array | None]: ...
    def sum_of_squares(self, x: Array) -> float: ...
    def adamw(self, params: Array, grads: Array, m: Mean, v: Array, update: Update) -> None: ...


def head_backward(
    primitives: Primitives, dlogits: Array, hidden: Array, weight: Array, dweight: Array, dbias: Array | None
) -> Array:
    """dhidden (N, C) of dlogits (N, V); adds to dweight (R, C) and dbias (R,), which are those of the last R tokens."""
    n_trained = len(dweight)
    if n_trained == len(weight):
        return primitives.linear_backward(dlogits, hidden, weight, dweight, dbias)
    if n_trained:
        last = np.ascontiguousarray(dlogits[:, -n_trained:])
        primitives.linear_backward(last, hidden, weight[-n_trained:], dweight, dbias)
    return primitives.linear_backward(dlogits, None, weight, None, None)
