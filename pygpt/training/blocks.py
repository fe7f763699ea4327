"""A block of the network: attention, the MLP and the norms around them, forward and backward.

One for every family, driven by `ModelConfig`, as in `pygpt.reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pygpt.config import Rope
from pygpt.training import documents
from pygpt.training.attention import join_sinks, sinks_backward
from pygpt.training.dropout import Dropout
from pygpt.training.modules import Modules, Normed
from pygpt.training.parameters import FlatTensors, Parameters
from pygpt.training.primitives import Array, Drop, Heads

# What is cheap to compute, the outputs of a norm before a branch and of an activation, is not kept but computed again.

Apart = tuple[slice, ...] | None
"""The rows of each document, where several stand in a sequence: see `pygpt.training.documents`."""


class _Attention(NamedTuple):
    norms: tuple[Normed, ...]  # of queries and of keys, where the model has them
    qkv: Array  # (N, (H + 2 K) D), turned
    out: Array  # (N, H D)
    lse: Array  # (B, H, T)
    heads: Heads
    apart: Apart


class _Mlp(NamedTuple):
    up: Array  # (N, n_inner), or (N, 2 n_inner) with a gate


class _Branch(NamedTuple):
    x: Array  # (N, C), the stream that it reads
    before: Normed | None
    layer: _Attention | _Mlp
    after: Normed | None
    drop: Drop | None  # of what it adds


class Block(NamedTuple):
    """What a block keeps for its backward pass."""

    attn: _Branch
    attn_sum: Normed | None
    mlp: _Branch
    mlp_sum: Normed | None


class Blocks:
    """The blocks of a model. Holds no values but tables of positions."""

    def __init__(self, modules: Modules) -> None:
        self._m, self._config = modules, modules.config
        self._angles: dict[tuple[Rope, np.dtype[Any]], tuple[Array, Array]] = {}  # cos and sin, (n_ctx, dim / 2)

    def forward(
        self, params: Parameters, x: Array, n_batch: int, layer: int, dropout: Dropout | None, apart: Apart = None
    ) -> tuple[Array, Block]:
        """The stream after a block that reads x (N, C), and what `backward` needs."""
        y, attn = self._branch(params, x, n_batch, layer, "attn", dropout, apart)
        if self._config.branches == "sequential":
            x, attn_sum = self._sum(params, x, y, attn.drop, f"blocks.{layer}.attn_norm")
            y, mlp = self._branch(params, x, n_batch, layer, "mlp", dropout)
            x, mlp_sum = self._sum(params, x, y, mlp.drop, f"blocks.{layer}.mlp_norm")
            return x, Block(attn, attn_sum, mlp, mlp_sum)
        z, mlp = self._branch(params, x, n_batch, layer, "mlp", dropout)
        add = self._m.primitives.dropout
        return add(z, mlp.drop, add(y, attn.drop, x)), Block(attn, None, mlp, None)

    def backward(self, params: Parameters, grads: FlatTensors, dx: Array, tape: Block, layer: int) -> Array:
        """The gradient of the stream before the block, given that of the stream after it, dx (N, C)."""
        add = self._m.primitives.dropout
        if self._config.branches == "sequential":
            dx = self._sum_backward(params, grads, dx, tape.mlp_sum, f"blocks.{layer}.mlp_norm")
            dread = add(self._branch_backward(params, grads, dx, tape.mlp, layer, "mlp"), None, dx)
            dx = self._sum_backward(params, grads, dread, tape.attn_sum, f"blocks.{layer}.attn_norm")
            dread = self._branch_backward(params, grads, dx, tape.attn, layer, "attn")
        else:
            dread = self._branch_backward(params, grads, dx, tape.mlp, layer, "mlp")
            dread = add(self._branch_backward(params, grads, dx, tape.attn, layer, "attn"), None, dread)
        return add(dread, None, dx)

    def _sum(self, params: Parameters, x: Array, y: Array, drop: Drop | None, norm: str) -> tuple[Array, Normed | None]:
        y = self._m.primitives.dropout(y, drop, x)
        return self._m.norm(params, y, norm) if self._config.norm_placement == "after_sum" else (y, None)

    def _sum_backward(self, params: Parameters, grads: FlatTensors, dx: Array, tape: Normed | None, norm: str) -> Array:
        return dx if tape is None else self._m.norm_backward(params, grads, dx, tape, norm)

    # A branch: what it adds, but for dropout, to the stream that it reads.

    def _norms(self, of: str, layer: int) -> tuple[str | None, str | None]:
        """The names of the norms before and after a branch."""
        name, placement = f"blocks.{layer}", self._config.norm_placement
        shared = "attn" if self._config.branches == "parallel_one_norm" else of
        return (
            f"{name}.{shared}_norm" if placement in ("before_branch", "sandwich") else None,
            {"after_branch": f"{name}.{of}_norm", "sandwich": f"{name}.{of}_post_norm"}.get(placement),
        )

    def _branch(
        self,
        params: Parameters,
        x: Array,
        n_batch: int,
        layer: int,
        of: str,
        dropout: Dropout | None,
        apart: Apart = None,
    ) -> tuple[Array, _Branch]:
        before, after = self._norms(of, layer)
        read, normed_before = (x, None) if before is None else self._m.norm(params, x, before)
        y: Array
        tape: _Attention | _Mlp
        if of == "attn":
            y, tape = self._attention(params, read, n_batch, layer, _drop(dropout, layer, 0), apart)
        else:
            y, tape = self._mlp(params, read, layer)
        y, normed_after = (y, None) if after is None else self._m.norm(params, y, after)
        if self._config.branch_scale != 1.0:
            y *= self._config.branch_scale
        return y, _Branch(x, normed_before, tape, normed_after, _drop(dropout, layer, 1 if of == "attn" else 2))

    def _branch_backward(
        self, params: Parameters, grads: FlatTensors, dy: Array, tape: _Branch, layer: int, of: str
    ) -> Array:
        before, after = self._norms(of, layer)
        if self._config.branch_scale != 1.0:
            dy = dy * dy.dtype.type(self._config.branch_scale)
        if tape.drop is not None:
            dy = self._m.primitives.dropout(dy, tape.drop)
        if after is not None and tape.after is not None:
            dy = self._m.norm_backward(params, grads, dy, tape.after, after)

        def read() -> Array:
            return tape.x if before is None else self._m.norm(params, tape.x, before)[0]

        if isinstance(tape.layer, _Attention):
            dread = self._attention_backward(params, grads, dy, tape.layer, layer, read)
        else:
            dread = self._mlp_backward(params, grads, dy, tape.layer, layer, read)
        if before is not None and tape.before is not None:
            dread = self._m.norm_backward(params, grads, dread, tape.before, before)
        return dread

    # Attention.

    def _attention(
        self, params: Parameters, x: Array, n_batch: int, layer: int, drop: Drop | None, apart: Apart
    ) -> tuple[Array, _Attention]:
        c, name = self._config, f"blocks.{layer}.attn"
        n_token, rule = len(x) // n_batch, c.layers[layer]
        qkv = self._m.linear(params, x, f"{name}.q", f"{name}.k", f"{name}.v")
        norms = tuple(self._norm_heads(params, qkv, *part) for part in self._normed_heads(name))
        self._turn(qkv, n_token, layer, apart, inverse=False)
        heads = Heads(
            n_batch,
            c.n_head,
            c.n_kv_head,
            rule.attn_scale,
            drop,
            rule.window or 0,
            rule.score_cap or 0.0,
            np.array(rule.alibi_slopes, x.dtype) if rule.alibi_slopes else None,
        )
        out, lse = documents.attention(self._m.primitives, qkv, heads, apart)
        if rule.sinks:
            join_sinks(out, lse, params.tensors[f"{name}.sinks"])
        return self._m.linear(params, out, f"{name}.out"), _Attention(norms, qkv, out, lse, heads, apart)

    def _attention_backward(
        self,
        params: Parameters,
        grads: FlatTensors,
        dy: Array,
        tape: _Attention,
        layer: int,
        read: Callable[[], Array],
    ) -> Array:
        name = f"blocks.{layer}.attn"
        dout = self._m.linear_backward(params, grads, dy, lambda: tape.out, f"{name}.out")
        if self._config.layers[layer].sinks:
            sinks = params.tensors[f"{name}.sinks"]
            sinks_backward(dout, tape.out, tape.lse, sinks, grads.of(f"{name}.sinks", sinks))
        dqkv = documents.attention_backward(
            self._m.primitives, dout, tape.qkv, tape.out, tape.lse, tape.heads, tape.apart
        )
        self._turn(dqkv, len(dy) // tape.heads.n_batch, layer, tape.apart, inverse=True)
        for normed, (norm, part) in zip(tape.norms, self._normed_heads(name), strict=True):
            dheads = np.ascontiguousarray(dqkv[:, part]).reshape(normed.x.shape)
            dqkv[:, part] = self._m.rms_norm_backward(params, grads, dheads, normed, norm).reshape(len(dqkv), -1)
        return self._m.linear_backward(params, grads, dqkv, read, f"{name}.q", f"{name}.k", f"{name}.v")

    def _normed_heads(self, name: str) -> list[tuple[str, slice]]:
        """The norms of queries and of keys, and their columns of qkv."""
        c = self._config
        n_q = c.n_head * c.head_dim
        columns = {"q_norm": slice(n_q), "k_norm": slice(n_q, n_q + c.n_kv_head * c.head_dim)}
        return [] if c.qk_norm is None else [(f"{name}.{norm}", part) for norm, part in columns.items()]

    def _norm_heads(self, params: Parameters, qkv: Array, norm: str, part: slice) -> Normed:
        """Norm columns of qkv in place, as many at a time as the weight has values."""
        width = len(params.tensors[f"{norm}.weight"])
        y, tape = self._m.rms_norm(params, np.ascontiguousarray(qkv[:, part]).reshape(-1, width), norm)
        qkv[:, part] = y.reshape(len(qkv), -1)
        return tape

    def _turn(self, qkv: Array, n_token: int, layer: int, apart: Apart, inverse: bool) -> None:
        """Rotary positions of queries and keys, where the model has them."""
        c, rope = self._config, self._config.layers[layer].rope
        if rope is None:
            return
        if (rope, qkv.dtype) not in self._angles:
            angle = np.outer(np.arange(c.n_ctx), rope.inv_freq())  # in float64
            cos, sin = (f(angle) * rope.attention_factor() for f in (np.cos, np.sin))
            self._angles[rope, qkv.dtype] = cos.astype(qkv.dtype), sin.astype(qkv.dtype)
        cos, sin = self._angles[rope, qkv.dtype]
        for rows in (slice(None),) if apart is None else apart:
            n = n_token if apart is None else rows.stop - rows.start
            self._m.primitives.rope(
                qkv[rows], c.n_head + c.n_kv_head, c.head_dim, cos[:n], sin[:n], rope.interleaved, inverse
            )

    # The MLP.

    def _mlp(self, params: Parameters, x: Array, layer: int) -> tuple[Array, _Mlp]:
        name = f"blocks.{layer}.mlp"
        up = self._m.linear(params, x, *self._ups(name))
        return self._m.linear(params, self._activated(up), f"{name}.down"), _Mlp(up)

    def _ups(self, name: str) -> tuple[str, ...]:
        return (f"{name}.gate", f"{name}.up") if self._config.gated_mlp else (f"{name}.up",)

    def _activated(self, up: Array) -> Array:
        primitives, f = self._m.primitives, self._config.activation
        return primitives.gated_activation(f, up) if self._config.gated_mlp else primitives.activation(f, up)

    def _mlp_backward(
        self,
        params: Parameters,
        grads: FlatTensors,
        dy: Array,
        tape: _Mlp,
        layer: int,
        read: Callable[[], Array],
    ) -> Array:
        name, primitives, f = f"blocks.{layer}.mlp", self._m.primitives, self._config.activation
        dinner = self._m.linear_backward(params, grads, dy, lambda: self._activated(tape.up), f"{name}.down")
        backward = primitives.gated_activation_backward if self._config.gated_mlp else primitives.activation_backward
        return self._m.linear_backward(params, grads, backward(f, dinner, tape.up), read, *self._ups(name))


def _drop(dropout: Dropout | None, layer: int, place: int) -> Drop | None:
    """The mask of one of a block's three places; the embedding has the number 0."""
    return None if dropout is None else dropout.at(1 + 3 * layer + place)
