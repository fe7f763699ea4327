"""A GPT for training: the forward pass with a record of what the backward pass needs, and the backward pass.

One block loop for every family, driven by `ModelConfig`, as in `pygpt.reference`; the layers themselves are the
functions of `pygpt.training.functions`, or the same ones on the compiled core.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt.config import LayerConfig, ModelConfig, Rope
from pygpt.errors import ConfigError
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Array, Heads, Ids, Mask, Primitives

Rng = np.random.Generator | None


class _Norm(NamedTuple):
    """What a norm keeps: its input (N, C), and each row's statistics."""

    x: Array
    stats: Array


class _Attention(NamedTuple):
    x: Array  # (N, C), the layer's input
    qkv: Array  # (N, (H + 2 K) D), turned
    out: Array  # (N, H D)
    lse: Array  # (B, H, T)
    heads: Heads


class _Mlp(NamedTuple):
    x: Array  # (N, C), the layer's input
    up: Array  # (N, n_inner), or (N, 2 n_inner) with a gate
    inner: Array  # (N, n_inner)


class _Block(NamedTuple):
    attn_norm: _Norm
    attn: _Attention
    attn_keep: Mask | None  # (N, C), of the residual dropout
    mlp_norm: _Norm
    mlp: _Mlp
    mlp_keep: Mask | None


class Tape(NamedTuple):
    """What `Network.hidden` keeps for `Network.backward`."""

    ids: Ids  # (B, T)
    keep: Mask | None  # (N, C), of the embedding's dropout
    blocks: list[_Block]
    norm: _Norm | None


_NOT_TRAINED = {
    "embed_dim",
    "embed_scale",
    "embed_norm",
    "qk_norm",
    "branch_scale",
    "head_bias",
    "logit_scale",
    "logit_cap",
}


def _check_trainable(config: ModelConfig) -> None:
    if config.norm_placement not in ("before_branch", "after_sum") or config.branches != "sequential":
        raise ConfigError(
            f"training does not do norm_placement {config.norm_placement} with branches {config.branches}: it does "
            "before_branch and after_sum with sequential ones"
        )
    for field in fields(config):
        if field.name in _NOT_TRAINED and (value := getattr(config, field.name)) != field.default:
            raise ConfigError(f"the model has {field.name} {value!r}, which can be run but not trained")
    for i, layer in enumerate(config.layers):
        plain = LayerConfig(attn_scale=layer.attn_scale, rope=layer.rope)
        for field in fields(layer):
            if (value := getattr(layer, field.name)) != getattr(plain, field.name):
                raise ConfigError(f"layer {i} has {field.name} {value!r}, which can be run but not trained")


class Network:
    """Computes a model's loss and its gradients. Holds no parameters and no state but tables of positions."""

    def __init__(self, config: ModelConfig, primitives: Primitives, dropout: float = 0.0) -> None:
        """`dropout`: the share of values set to 0 after the embedding, in the attention probabilities and at the end of
        each half of a block (Srivastava et al. 2014; where GPT-1 and GPT-2 have it), whenever a generator is given.

        ConfigError: norms, branches or attention scores of a kind that has no backward pass here."""
        _check_trainable(config)
        self.config = config
        self.primitives = primitives
        self.dropout = dropout
        self._angles: dict[tuple[Rope, np.dtype[Any]], tuple[Array, Array]] = {}  # cos and sin, (n_ctx, dim / 2)
        self._sinusoids: Array | None = None  # (n_ctx, C)

    def loss(self, params: Parameters, ids: Ids, targets: Ids) -> tuple[float, int]:
        """The nats of predicting targets (B, T) from ids (B, T), summed, and how many targets that are: those below 0
        do not count. No dropout."""
        hidden, _ = self.hidden(params, ids, record=False)
        nats, _ = self.primitives.cross_entropy(hidden, self.head(params), targets.reshape(-1), 1.0, None)
        return nats, int(np.count_nonzero(targets >= 0))

    def loss_and_gradients(
        self,
        params: Parameters,
        grads: Parameters,
        ids: Ids,
        targets: Ids,
        scale: float | None = None,
        rng: Rng = None,
    ) -> tuple[float, int]:
        """As `loss`, and adds to grads the gradient of scale times the sum; scale None: the mean."""
        n_targets = int(np.count_nonzero(targets >= 0))
        hidden, tape = self.hidden(params, ids, rng)
        factor = 1.0 / max(n_targets, 1) if scale is None else scale
        nats, dhidden = self.head_backward(params, grads, hidden, targets, factor)
        del hidden
        self.backward(params, grads, tape, dhidden)
        return nats, n_targets

    def head(self, params: Parameters) -> Array:
        """The matrix that turns hidden states into logits, (V, C)."""
        return params.tensors["embed.weight" if self.config.tied_head else "head.weight"]

    def head_backward(
        self, params: Parameters, grads: Parameters, hidden: Array, targets: Ids, scale: float
    ) -> tuple[float, Array]:
        """The nats of the targets (B, T) given hidden states (N, C), summed; the gradient of scale times the sum is
        added to the head's, and returned for the hidden states."""
        nats, dhidden = self.primitives.cross_entropy(
            hidden, self.head(params), targets.reshape(-1), scale, self.head(grads)
        )
        assert dhidden is not None
        return nats, dhidden

    def hidden(self, params: Parameters, ids: Ids, rng: Rng = None, record: bool = True) -> tuple[Array, Tape]:
        """The states that the head multiplies, (N, C), for ids (B, T), and what `backward` needs. With a generator
        there is dropout. Without `record` the tape is empty and the memory free again."""
        n_batch, n_token = ids.shape
        x: Array = params.tensors["embed.weight"][ids]  # (B, T, C)
        if self.config.learned_positions:
            x += params.tensors["pos.weight"][:n_token]
        if self.config.sinusoidal_positions:
            if self._sinusoids is None or self._sinusoids.dtype != x.dtype:
                self._sinusoids = self.config.sinusoids().astype(x.dtype)
            x += self._sinusoids[:n_token]
        x = x.reshape(n_batch * n_token, -1)
        keep = self._dropout(x, rng)
        blocks = []
        for layer in range(self.config.n_layer):
            x, block = self._block(params, x, n_batch, layer, rng)
            if record:
                blocks.append(block)
        norm = None
        if self.config.final_norm:
            x, norm = self._norm(params, x, "norm")
        return x, Tape(ids, keep, blocks, norm)

    def backward(self, params: Parameters, grads: Parameters, tape: Tape, dhidden: Array) -> None:
        """Add to grads the gradients that follow from dhidden (N, C), the hidden states' own. Uses up the tape."""
        dx = dhidden
        if tape.norm is not None:
            dx = self._norm_backward(params, grads, dx, tape.norm, "norm")
        for layer in reversed(range(self.config.n_layer)):
            dx = self._block_backward(params, grads, dx, tape.blocks.pop(), layer)
        if tape.keep is not None:
            dx = self._dropped(dx, tape.keep)
        self.primitives.embedding_backward(dx, tape.ids.reshape(-1), grads.tensors["embed.weight"])
        if self.config.learned_positions:
            n_batch, n_token = tape.ids.shape
            grads.tensors["pos.weight"][:n_token] += dx.reshape(n_batch, n_token, -1).sum(axis=0)

    # A block: each half reads the stream and adds to it, with the norm before the half or, as in GPT-1, after the sum.

    def _block(self, params: Parameters, x: Array, n_batch: int, layer: int, rng: Rng) -> tuple[Array, _Block]:
        name, post = f"blocks.{layer}", not self.config.final_norm
        read, norm1 = (x, None) if post else self._norm(params, x, f"{name}.attn_norm")
        y, attn = self._attention(params, read, n_batch, layer, rng)
        keep1 = self._dropout(y, rng)
        y += x
        x, norm1 = (y, norm1) if norm1 else self._norm(params, y, f"{name}.attn_norm")
        read, norm2 = (x, None) if post else self._norm(params, x, f"{name}.mlp_norm")
        y, mlp = self._mlp(params, read, layer)
        keep2 = self._dropout(y, rng)
        y += x
        x, norm2 = (y, norm2) if norm2 else self._norm(params, y, f"{name}.mlp_norm")
        return x, _Block(norm1, attn, keep1, norm2, mlp, keep2)

    def _block_backward(self, params: Parameters, grads: Parameters, dx: Array, tape: _Block, layer: int) -> Array:
        name, post = f"blocks.{layer}", not self.config.final_norm

        def half(dx: Array, norm: _Norm, norm_name: str, keep: Mask | None, attention: bool) -> Array:
            if post:
                dx = self._norm_backward(params, grads, dx, norm, norm_name)
            dy = dx if keep is None else self._dropped(dx.copy(), keep)
            if attention:
                dread = self._attention_backward(params, grads, dy, tape.attn, layer)
            else:
                dread = self._mlp_backward(params, grads, dy, tape.mlp, layer)
            if not post:
                dread = self._norm_backward(params, grads, dread, norm, norm_name)
            dread += dx
            return dread

        dx = half(dx, tape.mlp_norm, f"{name}.mlp_norm", tape.mlp_keep, False)
        return half(dx, tape.attn_norm, f"{name}.attn_norm", tape.attn_keep, True)

    def _norm(self, params: Parameters, x: Array, name: str) -> tuple[Array, _Norm]:
        weight = params.tensors[f"{name}.weight"]
        if self.config.norm == "rms_norm":
            y, stats = self.primitives.rms_norm(x, weight, self.config.norm_eps)
        else:
            y, stats = self.primitives.layer_norm(x, weight, params.tensors[f"{name}.bias"], self.config.norm_eps)
        return y, _Norm(x, stats)

    def _norm_backward(self, params: Parameters, grads: Parameters, dy: Array, tape: _Norm, name: str) -> Array:
        weight, dweight = params.tensors[f"{name}.weight"], grads.tensors[f"{name}.weight"]
        if self.config.norm == "rms_norm":
            return self.primitives.rms_norm_backward(dy, tape.x, weight, tape.stats, dweight)
        dbias = grads.tensors[f"{name}.bias"]
        return self.primitives.layer_norm_backward(dy, tape.x, weight, tape.stats, dweight, dbias)

    def _linear(self, params: Parameters, x: Array, *modules: str) -> Array:
        weight, bias = _matrix(params, modules)
        return self.primitives.linear(x, weight, bias)

    def _linear_backward(self, params: Parameters, grads: Parameters, dy: Array, x: Array, *modules: str) -> Array:
        weight, _ = _matrix(params, modules)
        dweight, dbias = _matrix(grads, modules)
        return self.primitives.linear_backward(dy, x, weight, dweight, dbias)

    def _attention(self, params: Parameters, x: Array, n_batch: int, layer: int, rng: Rng) -> tuple[Array, _Attention]:
        c, name = self.config, f"blocks.{layer}.attn"
        n_token = len(x) // n_batch
        qkv = self._linear(params, x, f"{name}.q", f"{name}.k", f"{name}.v")
        self._turn(qkv, n_token, layer, inverse=False)
        keep = self._mask((n_batch, c.n_head, n_token, n_token), rng)
        heads = Heads(n_batch, c.n_head, c.n_kv_head, c.layers[layer].attn_scale, keep, self._keep_scale)
        out, lse = self.primitives.attention(qkv, heads)
        return self._linear(params, out, f"{name}.out"), _Attention(x, qkv, out, lse, heads)

    def _attention_backward(
        self, params: Parameters, grads: Parameters, dy: Array, tape: _Attention, layer: int
    ) -> Array:
        name = f"blocks.{layer}.attn"
        dout = self._linear_backward(params, grads, dy, tape.out, f"{name}.out")
        dqkv = self.primitives.attention_backward(dout, tape.qkv, tape.out, tape.lse, tape.heads)
        self._turn(dqkv, len(dy) // tape.heads.n_batch, layer, inverse=True)
        return self._linear_backward(params, grads, dqkv, tape.x, f"{name}.q", f"{name}.k", f"{name}.v")

    def _turn(self, qkv: Array, n_token: int, layer: int, inverse: bool) -> None:
        """Rotary positions of queries and keys, where the model has them."""
        c, rope = self.config, self.config.layers[layer].rope
        if rope is None:
            return
        if (rope, qkv.dtype) not in self._angles:
            angle = np.outer(np.arange(c.n_ctx), rope.inv_freq())  # in float64
            cos, sin = (f(angle) * rope.attention_factor() for f in (np.cos, np.sin))
            self._angles[rope, qkv.dtype] = cos.astype(qkv.dtype), sin.astype(qkv.dtype)
        cos, sin = self._angles[rope, qkv.dtype]
        self.primitives.rope(
            qkv, c.n_head + c.n_kv_head, c.head_dim, cos[:n_token], sin[:n_token], rope.interleaved, inverse
        )

    def _mlp(self, params: Parameters, x: Array, layer: int) -> tuple[Array, _Mlp]:
        name, f = f"blocks.{layer}.mlp", self.config.activation
        if self.config.gated_mlp:
            up = self._linear(params, x, f"{name}.gate", f"{name}.up")
            inner = self.primitives.gated_activation(f, up)
        else:
            up = self._linear(params, x, f"{name}.up")
            inner = self.primitives.activation(f, up)
        return self._linear(params, inner, f"{name}.down"), _Mlp(x, up, inner)

    def _mlp_backward(self, params: Parameters, grads: Parameters, dy: Array, tape: _Mlp, layer: int) -> Array:
        name, f = f"blocks.{layer}.mlp", self.config.activation
        dinner = self._linear_backward(params, grads, dy, tape.inner, f"{name}.down")
        if self.config.gated_mlp:
            dup = self.primitives.gated_activation_backward(f, dinner, tape.up)
            return self._linear_backward(params, grads, dup, tape.x, f"{name}.gate", f"{name}.up")
        dup = self.primitives.activation_backward(f, dinner, tape.up)
        return self._linear_backward(params, grads, dup, tape.x, f"{name}.up")

    # Dropout: what is kept is divided by its share, so that the sum stays the same on average.

    @property
    def _keep_scale(self) -> float:
        return 1.0 / (1.0 - self.dropout)

    def _mask(self, shape: tuple[int, ...], rng: Rng) -> Mask | None:
        """1 for what stays; None where nothing is dropped."""
        if rng is None or self.dropout == 0.0:
            return None
        size = math.prod(shape)
        drawn = np.asarray(rng.bit_generator.random_raw(-(-size // 4)), "<u8").view("<u2")[:size]
        return (drawn >= round(self.dropout * (1 << 16))).view(np.uint8).reshape(shape)

    def _dropout(self, x: Array, rng: Rng) -> Mask | None:
        """Drop values of x (N, C) in place; the mask."""
        keep = self._mask(x.shape, rng)
        if keep is not None:
            self._dropped(x, keep)
        return keep

    def _dropped(self, x: Array, keep: Mask) -> Array:
        x *= keep
        x *= self._keep_scale
        return x


def _matrix(params: Parameters, modules: tuple[str, ...]) -> tuple[Array, Any]:
    """The weight and the bias, or None, of modules that share their input, one after the other."""
    weight = params.stacked(tuple(f"{m}.weight" for m in modules))
    assert weight is not None
    bias: NDArray[np.floating[Any]] | None = params.stacked(tuple(f"{m}.bias" for m in modules))
    return weight, bias
