"""The functions of `pygpt.training.functions` on the compiled core: float32, on several threads.

Results do not depend on the number of threads, nor, in float32, on the machine's instruction set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import Activation
from pygpt.training.primitives import PLAIN, Array, Drop, Heads, Ids, Logits, Mean, Precision, Update, head_backward

Floats = NDArray[np.float32]

LOGITS = 1 << 20  # that exist at once, or so many rows of them: in fewer rows, packing the head takes over
LOGIT_ROWS = 128


class Kernels:
    """The primitives as methods; arguments, results and formulas are described in `pygpt.training.functions`.

    All arrays are C-contiguous float32 (ids int32, an m in bfloat16 uint16). ValueError names the array that is not as
    it must be.
    """

    def __init__(self, threads: int | None = None, isa: str | None = None, precision: Precision = "float32") -> None:
        """`threads` None: one for each usable core. `isa` None: the machine's best. `precision`: of the factors of
        products, attention's too; "bfloat16" rounds them as it packs them, and sums in float32 (Kalamkar et al. 2019,
        arXiv:1905.12322). ValueError: one of them is unusable."""
        if threads is None:
            threads = _core.usable_cores()[0]
        self._core = _core.TrainingKernels(threads=threads, isa=isa, precision=precision)
        self.precision: Precision = precision

    @property
    def threads(self) -> int:
        """On which the work is split."""
        return self._core.threads

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._core.isa

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = np.empty((len(x), len(weight)), np.float32)
        self._core.linear(x, weight, bias, y)
        return y

    def linear_backward(
        self, dy: Array, x: Array | None, weight: Array, dweight: Array | None, dbias: Array | None
    ) -> Array:
        dx = np.empty((len(dy), weight.shape[1]), np.float32)
        self._core.linear_backward(dy, x, weight, dweight, dbias, dx)
        return dx

    def dropout(self, x: Array, drop: Drop | None, plus: Array | None = None) -> Array:
        y = _like(x)
        self._core.dropout(x, plus, drop, y)
        return y

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array]:
        y, stats = _like(x), np.empty((len(x), 2), np.float32)
        self._core.norm(x, weight, bias, eps, y, stats)
        return y, stats

    def layer_norm_backward(
        self, dy: Array, x: Array, weight: Array, stats: Array, dweight: Array, dbias: Array
    ) -> Array:
        dx = _like(x)
        self._core.norm_backward(dy, x, weight, stats, dweight, dbias, dx)
        return dx

    def rms_norm(self, x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
        y, stats = _like(x), np.empty((len(x), 1), np.float32)
        self._core.norm(x, weight, None, eps, y, stats)
        return y, stats

    def rms_norm_backward(self, dy: Array, x: Array, weight: Array, stats: Array, dweight: Array) -> Array:
        dx = _like(x)
        self._core.norm_backward(dy, x, weight, stats, dweight, None, dx)
        return dx

    def activation(self, name: Activation, x: Array) -> Array:
        y = _like(x)
        self._core.activation(name, x, y)
        return y

    def activation_backward(self, name: Activation, dy: Array, x: Array) -> Array:
        dx = _like(x)
        self._core.activation_backward(name, dy, x, dx)
        return dx

    def gated_activation(self, name: Activation, gate_up: Array) -> Array:
        y = np.empty((len(gate_up), gate_up.shape[-1] // 2), np.float32)
        self._core.gated_activation(name, gate_up, y)
        return y

    def gated_activation_backward(self, name: Activation, dy: Array, gate_up: Array) -> Array:
        dgate_up = _like(gate_up)
        self._core.gated_activation_backward(name, dy, gate_up, dgate_up)
        return dgate_up

    def rope(
        self, qkv: Array, n_heads: int, head_dim: int, cos: Array, sin: Array, interleaved: bool, inverse: bool
    ) -> None:
        self._core.rope(qkv, n_heads, head_dim, cos, sin, interleaved, inverse)

    def attention(self, qkv: Array, heads: Heads) -> tuple[Array, Array]:
        n_rows, width = qkv.shape
        out = np.empty((n_rows, width // (heads.n_head + 2 * heads.n_kv_head) * heads.n_head), np.float32)
        lse = np.empty((heads.n_batch, heads.n_head, n_rows // max(heads.n_batch, 1)), np.float32)
        self._core.attention(qkv, heads, out, lse)
        return out, lse

    def attention_backward(self, dout: Array, qkv: Array, out: Array, lse: Array, heads: Heads) -> Array:
        dqkv = _like(qkv)
        self._core.attention_backward(dout, qkv, out, lse, heads, dqkv)
        return dqkv

    def embedding_backward(self, dx: Array, ids: Ids, dweight: Array) -> None:
        self._core.embedding_backward(dx, ids, dweight)

    def cross_entropy(
        self, hidden: Array, weight: Array, targets: Ids, scale: float, dweight: Array | None, logits: Logits = PLAIN
    ) -> tuple[float, Array | None]:
        counted = np.flatnonzero(targets >= 0)
        if len(counted) < len(targets):  # the others add nothing, and need no logits
            nats, part = self.cross_entropy(hidden[counted], weight, targets[counted], scale, dweight, logits)
            return nats, None if part is None else _scattered(part, counted, len(hidden))
        n_rows = min(max(LOGIT_ROWS, LOGITS // len(weight)), len(hidden))
        nats, dhidden = 0.0, None if dweight is None else _like(hidden)
        memory = np.empty((n_rows, len(weight)), np.float32)
        for at in range(0, len(hidden), max(n_rows, 1)):
            rows = slice(at, at + n_rows)
            products = memory[: len(hidden) - at]
            self._core.linear(hidden[rows], weight, logits.bias, products)
            nats += self._core.cross_entropy_rows(
                products, targets[rows], scale, dweight is not None, logits.scale, logits.cap
            )
            if dweight is not None and dhidden is not None:
                dhidden[rows] = head_backward(self, products, hidden[rows], weight, dweight, logits.dbias)
        return nats, dhidden

    def sum_of_squares(self, x: Array) -> float:
        return self._core.sum_of_squares(x)

    def adamw(self, params: Array, grads: Array, m: Mean, v: Array, update: Update) -> None:
        self._core.adamw(params, grads, m, v, *update)


def _scattered(rows: Array, at: NDArray[np.intp], n: int) -> Array:
    """n rows, these among them and the others 0."""
    out = np.zeros((n, rows.shape[1]), rows.dtype)
    out[at] = rows
    return out


def _like(x: NDArray[Any]) -> Floats:
    """Not np.empty_like: that keeps the memory order of an array that the core is about to refuse."""
    return np.empty(x.shape, np.float32)
