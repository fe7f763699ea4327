"""A GPT's forward pass in plain NumPy, written to be read.

Everything that pygpt's fast core computes stands here once more, a formula a function, in the order in which the data
flows: `forward` at the bottom is the whole model, and each function it calls is a few lines above it. It recomputes
the whole sequence at each call, since there is no cache to understand first, and runs in float64 unless told otherwise.

Names of sizes in the shape comments:

    T  tokens in the sequence                 H  query heads (config.n_head)
    C  width of the model (config.n_embd)     K  key and value heads (config.n_kv_head), H is a multiple of K
    D  width of one head (config.head_dim)    V  tokens in the vocabulary (config.n_vocab)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt import sites
from pygpt.activations import ACTIVATIONS, erf, gated, gelu, gelu_tanh, relu, sigmoid, silu, swiglu_clamped
from pygpt.config import LayerConfig, ModelConfig, Rope
from pygpt.errors import ContextOverflowError, check_type
from pygpt.information import entropy, log_softmax, surprisal
from pygpt.sites import Site, Value, patched, read_layers, read_patches

__all__ = [
    "ACTIVATIONS", "attention", "attention_maps", "attention_weights", "block", "capped", "causal_attention", "check",
    "embed", "erf", "feed_forward", "forward", "gated", "gelu", "gelu_tanh", "head", "hidden", "layer_norm", "linear",
    "mlp", "norm", "relu", "rms_norm", "rope", "route", "sigmoid", "silu", "softmax", "swiglu_clamped", "trace",
]  # fmt: skip

Array = NDArray[np.floating[Any]]
Tensors = Mapping[str, ArrayLike]
Ids = Sequence[int] | NDArray[np.integer[Any]]
DType = type[np.floating[Any]]
See = Callable[[str, int, Array], Array]


def unseen(name: str, layer: int, x: Array) -> Array:
    """What a `See` does: it is shown a quantity by its name (see `pygpt.Trace`) and layer, and says what goes on in its
    place. This one lets all go on as it is."""
    return x


# Norms: each token's vector is brought to a common size, so that no layer sees inputs that grow with depth.


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Shift and scale each row of x (..., C) to mean 0 and variance 1 (Ba et al. 2016, arXiv:1607.06450)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + eps)
    return normed * weight + bias


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Scale each row of x (..., C) to a root mean square of 1 (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    mean_square = np.square(x).mean(axis=-1, keepdims=True)
    normed: Array = x / np.sqrt(mean_square + eps)
    return normed * weight


# Attention: the only place where a token sees the others.


def linear(x: Array, tensors: Tensors, name: str) -> Array:
    """x (T, inputs) times the matrix `name`.weight (outputs, inputs), plus `name`.bias (outputs,) if there is one."""
    y: Array = x @ np.asarray(tensors[f"{name}.weight"], x.dtype).T
    if f"{name}.bias" in tensors:
        y += np.asarray(tensors[f"{name}.bias"], x.dtype)
    return y


def rope(x: Array, positions: NDArray[np.int64], rotary: Rope) -> Array:
    """Turn pairs of values of x (heads, T, D) by angles that grow with their token's position (T,).

    The product of a turned query and a turned key depends only on how far apart the two tokens are, so attention
    learns about distances (Su et al. 2021, arXiv:2104.09864). Values from rotary.dim on stay as they are. Some
    stretched rotary positions make the turned values larger as well, by `Rope.attention_factor`.
    """
    angle = np.outer(positions, rotary.inv_freq())  # (T, dim / 2), in float64: a float32 angle loses bits as it grows
    cos, sin = (f(angle) * rotary.attention_factor() for f in (np.cos, np.sin))
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    if rotary.interleaved:
        first, second = slice(0, rotary.dim, 2), slice(1, rotary.dim, 2)
    else:
        first, second = slice(0, rotary.dim // 2), slice(rotary.dim // 2, rotary.dim)
    turned: Array = x.copy()
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., second] * cos + x[..., first] * sin
    return turned


def softmax(x: Array) -> Array:
    """exp(x) over the last axis, divided by its sum; taking the largest x off first keeps exp from overflowing."""
    e: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    total: Array = e.sum(axis=-1, keepdims=True)
    return e / total


def capped(x: Array, cap: float) -> Array:
    """x where it is small, and never beyond -cap or cap (Gemma 2, arXiv:2408.00118)."""
    within: Array = cap * np.tanh(x / cap)
    return within


def attention_weights(q: Array, k: Array, layer: LayerConfig, sinks: ArrayLike | None = None) -> Array:
    """How much each token looks at each: queries q (H, T, D) and keys k (K, T, D) give (H, T, T), a row a query.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; with K < H, each head of keys serves H / K neighbouring query
    heads (Ainslie et al. 2023, arXiv:2305.13245). Some layers cap the scores, let them fall with the distance, see only
    the nearest tokens, or let a score of each head, `sinks` (H,), take its share of the weights: `LayerConfig` has the
    sources.
    """
    k = np.repeat(k, len(q) // len(k), axis=0)  # (H, T, D)
    scores = q @ k.swapaxes(1, 2) * layer.attn_scale  # (H, T, T)
    positions = np.arange(scores.shape[1])
    distance = positions[:, None] - positions  # (T, T), from the key on to the query
    if layer.score_cap is not None:
        scores = capped(scores, layer.score_cap)
    if layer.alibi_slopes:
        scores = scores - np.array(layer.alibi_slopes, scores.dtype)[:, None, None] * distance.astype(scores.dtype)
    seen = distance >= 0  # no token sees those after it
    if layer.window is not None:
        seen &= distance < layer.window
    scores[:, ~seen] = -np.inf  # exp(-inf) is 0
    if sinks is not None:
        sink = np.broadcast_to(np.asarray(sinks, scores.dtype)[:, None, None], (*scores.shape[:2], 1))
        scores = np.concatenate([scores, sink], axis=2)  # (H, T, T + 1)
    return softmax(scores)[:, :, : len(positions)]


def causal_attention(q: Array, k: Array, v: Array, layer: LayerConfig, sinks: ArrayLike | None = None) -> Array:
    """For each token, the mean of the values up to it, weighted by how well its query fits their keys: q (H, T, D) and
    k, v (K, T, D) give (H, T, D)."""
    mixed: Array = attention_weights(q, k, layer, sinks) @ np.repeat(v, len(q) // len(v), axis=0)
    return mixed


def attention(config: ModelConfig, tensors: Tensors, x: Array, layer: int, see: See = unseen) -> Array:
    """Causal self-attention of x (T, C): to queries, keys and values, attend head by head, and back to (T, C)."""
    name, n_token = f"blocks.{layer}.attn", len(x)

    def heads(part: str, n: int) -> Array:
        joined = linear(x, tensors, f"{name}.{part}")  # (T, n D)
        if config.qk_norm is not None and part != "v":
            weight = np.asarray(tensors[f"{name}.{part}_norm.weight"], x.dtype)  # (D,) or (n D,): what is normed alike
            joined = rms_norm(joined.reshape(n_token, -1, len(weight)), weight, config.norm_eps)
        apart: Array = joined.reshape(n_token, n, config.head_dim).swapaxes(0, 1)  # (n, T, D)
        return apart

    q, k, v = heads("q", config.n_head), heads("k", config.n_kv_head), heads("v", config.n_kv_head)
    if (rotary := config.layers[layer].rope) is not None:
        positions = np.arange(n_token)
        q, k = rope(q, positions, rotary), rope(k, positions, rotary)
    q, k, v = see("queries", layer, q), see("keys", layer, k), see("values", layer, v)
    mixed = causal_attention(q, k, v, config.layers[layer], tensors.get(f"{name}.sinks"))
    mixed = see("heads", layer, mixed)  # (H, T, D)
    joined: Array = mixed.swapaxes(0, 1).reshape(n_token, -1)  # (T, H D)
    return linear(joined, tensors, f"{name}.out")  # (T, C)


# The block and the model.


def mlp(
    config: ModelConfig, tensors: Tensors, x: Array, name: str, see: Callable[[Array], Array] = lambda inner: inner
) -> Array:
    """The feed-forward layer `name`, (T, C) -> (T, n_inner) -> (T, C); the gated form is Shazeer 2020,
    arXiv:2002.05202."""
    up = linear(x, tensors, f"{name}.up")  # (T, n_inner)
    if config.gated_mlp:
        inner = gated(config.activation, linear(x, tensors, f"{name}.gate"), up)
    else:
        inner = ACTIVATIONS[config.activation](up)
    return linear(see(inner), tensors, f"{name}.down")


def route(scores: Array, n_used: int, normalized: bool) -> tuple[NDArray[np.int64], Array]:
    """Which experts each token runs, and how much each counts: both (T, n_used), from scores (T, n_expert). Of equal
    scores the first are chosen; `normalized` weights are the softmax over the chosen alone, others that over all."""
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, :n_used]  # (T, n_used)
    weights: Array = np.take_along_axis(softmax(scores), chosen, axis=1)
    if normalized:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return chosen, weights


def feed_forward(config: ModelConfig, tensors: Tensors, x: Array, layer: int, see: See = unseen) -> Array:
    """A layer's MLP, or its mixture of experts: each token of x (T, C) runs a few MLPs of many (Shazeer et al. 2017,
    arXiv:1701.06538)."""
    name, experts = f"blocks.{layer}.mlp", config.layers[layer].experts
    if experts is None:
        return mlp(config, tensors, x, name, lambda inner: see("neurons", layer, inner))
    chosen, weights = route(linear(x, tensors, f"{name}.router"), experts.n_used, experts.normalized)
    y = np.zeros_like(x)
    for expert in range(experts.n_expert):
        token, place = np.nonzero(chosen == expert)  # the tokens that run it, (n,)
        if len(token):
            y[token] += weights[token, place, None] * mlp(config, tensors, x[token], f"{name}.experts.{expert}")
    if experts.shared_inner is not None:
        shared = mlp(config, tensors, x, f"{name}.shared")
        if experts.shared_gate:
            shared = sigmoid(linear(x, tensors, f"{name}.shared_gate")) * shared  # (T, 1) * (T, C)
        y = y + shared
    return y


def norm(config: ModelConfig, tensors: Tensors, x: Array, name: str) -> Array:
    """x (T, C) through the norm that the configuration asks for, with the parameters called `name`."""
    weight = np.asarray(tensors[f"{name}.weight"], x.dtype)
    if config.norm == "rms_norm":
        return rms_norm(x, weight, config.norm_eps)
    return layer_norm(x, weight, np.asarray(tensors[f"{name}.bias"], x.dtype), config.norm_eps)


def block(config: ModelConfig, tensors: Tensors, x: Array, layer: int, see: See = unseen) -> Array:
    """One layer: attention and the MLP each read the stream x (T, C) and add to it, with norms where `config` says."""
    name, placement = f"blocks.{layer}", config.norm_placement
    one_norm = config.branches == "parallel_one_norm"

    def branch(of: str, x: Array) -> Array:
        if placement in ("before_branch", "sandwich"):
            x = norm(config, tensors, x, f"{name}.{'attn' if one_norm else of}_norm")
        y = (attention if of == "attn" else feed_forward)(config, tensors, x, layer, see)
        if placement in ("after_branch", "sandwich"):
            y = norm(config, tensors, y, f"{name}.{of}_{'post_' if placement == 'sandwich' else ''}norm")
        return see("attention_out" if of == "attn" else "mlp_out", layer, y * config.branch_scale)

    def added(x: Array, y: Array, of: str) -> Array:
        x = norm(config, tensors, x + y, f"{name}.{of}_norm") if placement == "after_sum" else x + y
        return see("after_attention" if of == "attn" else "hidden", layer, x)

    with_attention = added(x, branch("attn", x), "attn")
    reads = with_attention if config.branches == "sequential" else x  # in a parallel block both read the same x
    return added(with_attention, branch("mlp", reads), "mlp")


def embed(config: ModelConfig, tensors: Tensors, tokens: NDArray[np.int64], dtype: DType) -> Array:
    """What the first block reads, (T, C): each token's vector and, where the model has them, its position's."""
    x: Array = np.asarray(tensors["embed.weight"], dtype)[tokens] * config.embed_scale  # (T, config.embed_width)
    if config.embed_dim is not None:
        x = linear(x, tensors, "embed_proj")  # (T, C)
    if config.learned_positions:
        x = x + np.asarray(tensors["pos.weight"], dtype)[: len(tokens)]
    if config.sinusoidal_positions:
        x = x + config.sinusoids().astype(dtype)[: len(tokens)]
    return norm(config, tensors, x, "embed_norm") if config.embed_norm else x


def head(config: ModelConfig, tensors: Tensors, x: Array) -> Array:
    """The logits (T, V) of the states after the last norm, x (T, C)."""
    if config.embed_dim is not None:
        x = linear(x, tensors, "head_proj")  # (T, config.embed_width)
    logits: Array = x @ np.asarray(tensors["embed.weight" if config.tied_head else "head.weight"], x.dtype).T
    if config.head_bias:
        logits += np.asarray(tensors["head.bias"], x.dtype)
    logits *= config.logit_scale
    return logits if config.logit_cap is None else capped(logits, config.logit_cap)


def hidden(config: ModelConfig, tensors: Tensors, ids: Ids, dtype: DType = np.float64, see: See = unseen) -> Array:
    """The states after the last norm, (T, C) of `dtype`, which the head turns into logits. Arguments as `forward`."""
    tokens = check(config, tensors, ids, dtype)  # (T,)
    x = see("embedding", 0, embed(config, tensors, tokens, dtype))  # (T, C)
    for layer in range(config.n_layer):
        x = block(config, tensors, x, layer, see)
    return norm(config, tensors, x, "norm") if config.final_norm else x


def forward(config: ModelConfig, tensors: Tensors, ids: Ids, dtype: DType = np.float64, see: See = unseen) -> Array:
    """The logits (T, V) of `dtype`: row t scores each token of the vocabulary as the one that follows ids[: t + 1].

    `tensors` maps the names of `config.tensor_shapes()` to anything that ``np.asarray(value, dtype)`` takes, converted
    one at a time. ValueError: no ids, an id outside the vocabulary, a tensor that is missing, unknown or of the wrong
    shape, a dtype other than float32 and float64. TypeError: ids that are not integers. ContextOverflowError: more ids
    than config.n_ctx. `see` is shown all that `trace` collects, as it comes to be.
    """
    return head(config, tensors, hidden(config, tensors, ids, dtype, see))


def check(config: ModelConfig, tensors: Tensors, ids: Ids, dtype: DType) -> NDArray[np.int64]:
    """The ids as an array (T,), once they, the tensors and the dtype are what `forward` says it takes."""
    check_type("config", config, ModelConfig)
    check_type("tensors", tensors, Mapping)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be numpy's float32 or float64, not {dtype!r}")
    shapes = config.tensor_shapes()
    if unlike := sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"tensor {unlike[0]} is {'missing' if unlike[0] in shapes else 'not part of this model'}")
    for name, shape in shapes.items():
        if np.shape(tensors[name]) != shape:
            raise ValueError(f"tensor {name} must have the shape {shape}, not {np.shape(tensors[name])}")
    tokens = np.asarray(ids)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"ids must be a sequence of at least one token, not of shape {tokens.shape}")
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"ids must be integers, not {tokens.dtype}")
    if len(tokens) > config.n_ctx:
        raise ContextOverflowError(f"{len(tokens)} tokens are more than the model's context of {config.n_ctx}")
    if tokens.min() < 0 or tokens.max() >= config.n_vocab:
        bad = tokens[(tokens < 0) | (tokens >= config.n_vocab)][0]
        raise ValueError(f"the id {bad} is outside the vocabulary of {config.n_vocab} tokens")
    return tokens.astype(np.int64)


def attention_maps(config: ModelConfig, tensors: Tensors, layers: Sequence[int], queries: Array, keys: Array) -> Array:
    """The `attention_weights` (L, H, T, T) of these layers' queries (L, H, T, D) and keys (L, K, T, D)."""
    n_token = queries.shape[2]
    maps = np.empty((len(layers), config.n_head, n_token, n_token), queries.dtype)
    for i, layer in enumerate(layers):
        sinks = tensors.get(f"blocks.{layer}.attn.sinks")
        maps[i] = attention_weights(queries[i], keys[i], config.layers[layer], sinks)
    return maps


def trace(
    config: ModelConfig,
    tensors: Tensors,
    ids: Ids,
    *,
    layers: Sequence[int] | None = None,
    attention: bool = False,
    patch: Mapping[Site, Value] | None = None,
    dtype: DType = np.float64,
) -> dict[str, Array]:
    """What `Model.trace` gives, by the names of `Trace`'s arrays; arguments as there and as of `forward`. What would be
    None there is not in it."""
    n_token = len(check(config, tensors, ids, dtype))
    wanted, patches = read_layers(layers, config), read_patches(patch, config, n_token)
    names = [name for name in sites.NAMES[1:] if sites.has(name, config, wanted)]
    out = {name: np.full((len(wanted), *sites.shape(name, config, n_token)), np.nan, dtype) for name in names}

    def see(name: str, layer: int, x: Array) -> Array:
        x = patched(patches, name, layer, x)
        if name == "embedding":
            out[name] = x
        elif layer in wanted and name in out:
            out[name][wanted.index(layer)] = x
        return x

    logits = forward(config, tensors, ids, dtype, see)
    if attention:
        out["attention"] = attention_maps(config, tensors, wanted, out["queries"], out["keys"])
    log_p = log_softmax(logits)
    bits = {"entropy": entropy(log_p), "surprisal": np.concatenate([[np.nan], surprisal(log_p[:-1], ids[1:])])}
    return out | {"logits": logits} | {name: array.astype(dtype) for name, array in bits.items()}
