"""Each primitive of the compiled core against pygpt.training.functions in float64, and against itself on every
instruction set and number of threads, where equal means ==.

Bounds: a sum of n terms is off by n EPS of the sum of their sizes, EPS being half of the last place of 1 in float32;
what comes after it adds a few roundings. They are twice what a worst case needs, not what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import Activation
from pygpt.training import functions
from pygpt.training.kernels import Kernels
from pygpt.training.primitives import Drop, Heads, Logits, Update

EPS = 2.0**-24
Floats = NDArray[np.float32]
Exact = NDArray[np.float64]
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "silu", "relu")
SHAPES = [(1, 1), (3, 5), (70, 16), (130, 33), (65, 256)]
MACHINES = [(isa, threads) for isa in _core.isa_names() for threads in (1, 2, 3)]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(threads=2)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def exact(*arrays: Floats) -> list[Exact]:
    return [a.astype(np.float64) for a in arrays]


def check(found: Floats, expected: Exact, bound: Any) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= bound).all(), np.max(np.abs(found - expected) / bound)


def same_everywhere(run: Callable[[Kernels], tuple[Any, ...]]) -> None:
    expected = run(Kernels(threads=1, isa="scalar"))
    for isa, threads in MACHINES:
        for found, wanted in zip(run(Kernels(threads=threads, isa=isa)), expected, strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=f"{isa} {threads}")


# Matrix products.


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(0, 3, 2), (1, 1, 1), (5, 40, 7), (70, 33, 130), (40, 800, 65)])
def test_linear(kernels: Kernels, rows: int, n_in: int, n_out: int, with_bias: bool) -> None:
    x, weight, dy = normal(1, rows, n_in), normal(2, n_out, n_in), normal(3, rows, n_out)
    bias, dbias = (normal(4, n_out), normal(5, n_out)) if with_bias else (None, None)
    dweight = normal(6, n_out, n_in)

    def run(k: Kernels) -> tuple[Any, ...]:
        dw, db = dweight.copy(), None if dbias is None else dbias.copy()
        dx = k.linear_backward(dy, x, weight, dw, db)
        return k.linear(x, weight, bias), dx, dw, *([] if db is None else [db])

    same_everywhere(run)
    found = run(kernels)
    x64, weight64, dy64, dweight64 = exact(x, weight, dy, dweight)
    bias64, dbias64 = (None, None) if bias is None or dbias is None else exact(bias, dbias)
    start = np.abs(dweight64)
    terms = np.abs(x64) @ np.abs(weight64).T + (0.0 if bias64 is None else np.abs(bias64))
    check(found[0], functions.linear(x64, weight64, bias64), 2 * (n_in + 1) * EPS * terms)
    dx64 = functions.linear_backward(dy64, x64, weight64, dweight64, dbias64)
    check(found[1], dx64, 2 * n_out * EPS * (np.abs(dy64) @ np.abs(weight64)))
    check(found[2], dweight64, 2 * (rows + 1) * EPS * (np.abs(dy64).T @ np.abs(x64) + start))
    if dbias is not None and dbias64 is not None:
        check(found[3], dbias64, 2 * (rows + 1) * EPS * (np.abs(dy64).sum(axis=0) + np.abs(dbias)))


# Norms: the statistics are off by (C + 8) EPS of the largest value, and dx multiplies that by the normed values.


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(kernels: Kernels, shape: tuple[int, int], centred: bool) -> None:
    x, weight, bias, dy = normal(1, *shape), normal(2, shape[1]), normal(3, shape[1]), normal(4, *shape)
    x64, weight64, bias64, dy64 = exact(x, weight, bias, dy)
    start = normal(5, shape[1]), normal(6, shape[1])
    sums, sums64 = [a.copy() for a in start], exact(*start)
    if centred:
        y, stats = kernels.layer_norm(x, weight, bias, 1e-3)
        y64, stats64 = functions.layer_norm(x64, weight64, bias64, 1e-3)
        dx = kernels.layer_norm_backward(dy, x, weight, stats, *sums)
        dx64 = functions.layer_norm_backward(dy64, x64, weight64, stats64, *sums64)
    else:
        y, stats = kernels.rms_norm(x, weight, 1e-3)
        y64, stats64 = functions.rms_norm(x64, weight64, 1e-3)
        dx = kernels.rms_norm_backward(dy, x, weight, stats, sums[0])
        dx64 = functions.rms_norm_backward(dy64, x64, weight64, stats64, sums64[0])
    scale = stats64[:, -1:]
    largest = np.abs(x64).max(axis=1, keepdims=True) * scale  # a normed value is at most this, or twice with a mean
    rounding = 2 * (shape[1] + 10) * EPS
    check(stats, stats64, rounding * (np.abs(stats64) + np.abs(x64).max() * (1.0 + scale**3)))
    check(y, y64, rounding * (1.0 + largest) ** 2 * (np.abs(weight64) * (1.0 + largest) + np.abs(bias64)))
    g = np.abs(dy64 * weight64).max(axis=1, keepdims=True)
    check(dx, dx64, 4 * rounding * scale * g * (1.0 + 2.0 * largest) ** 4)
    terms = np.abs(dy64).sum(axis=0) * (1.0 + 2.0 * largest.max()) ** 3 + np.abs(start[0]) + np.abs(start[1])
    for found, expected in zip(sums, sums64, strict=True):
        check(found, expected, (rounding + 2 * shape[0] * EPS) * terms)


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_the_same_everywhere(shape: tuple[int, int]) -> None:
    x, weight, bias, dy = normal(1, *shape), normal(2, shape[1]), normal(3, shape[1]), normal(4, *shape)

    def run(k: Kernels) -> tuple[Any, ...]:
        dweight, dbias, dscale = bias.copy(), weight.copy(), weight.copy()
        y, stats = k.layer_norm(x, weight, bias, 1e-5)
        dx = k.layer_norm_backward(dy, x, weight, stats, dweight, dbias)
        z, factors = k.rms_norm(x, weight, 1e-5)
        dz = k.rms_norm_backward(dy, x, weight, factors, dscale)
        return y, stats, dx, dweight, dbias, z, factors, dz, dscale

    same_everywhere(run)


# Activations: within some 8 EPS of x's size, or of x^2's where a derivative has such a term.


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(kernels: Kernels, name: Activation) -> None:
    special = np.array([0.0, 1e-30, -1e-30, 12.0, -12.0, 100.0, -100.0, 1e15, -1e15], np.float32)
    x = np.concatenate((np.linspace(-15.0, 15.0, 20011, dtype=np.float32), special))[None]
    dy, up = normal(1, *x.shape), normal(2, *x.shape)
    x64, dy64, up64 = exact(x, dy, up)
    bound = 16 * EPS * np.abs(x64) + 1e-30
    y64 = functions.activation(name, x64)
    check(kernels.activation(name, x), y64, bound)
    # Where |x| > 15 all derivatives are 0 or 1 to within e^-15 x^2, and the terms that say so vanish.
    slope = functions.activation_backward(name, np.ones_like(x64), np.clip(x64, -50.0, 50.0))
    steep = 16 * EPS * (1.0 + np.clip(x64, -50.0, 50.0) ** 2)
    check(kernels.activation_backward(name, dy, x), dy64 * slope, np.abs(dy64) * steep + 1e-30)
    gate_up = np.concatenate((x, up), axis=1)
    check(kernels.gated_activation(name, gate_up), y64 * up64, np.abs(up64) * bound + 1e-30)
    found = kernels.gated_activation_backward(name, dy, gate_up)
    check(found[:, : x.size], dy64 * up64 * slope, np.abs(dy64 * up64) * steep + 1e-30)
    check(found[:, x.size :], dy64 * y64, np.abs(dy64) * bound + 1e-30)


def test_a_clamped_gate(kernels: Kernels) -> None:
    gate = np.linspace(-15.0, 15.0, 20011, dtype=np.float32)[None]
    gate_up, dy = np.concatenate((gate, 6 * normal(2, *gate.shape)), axis=1), normal(1, *gate.shape)
    gate_up64, dy64 = exact(gate_up, dy)
    bound = 64 * EPS * (1.0 + np.abs(gate_up64[:, gate.size :])) * (1.0 + np.square(gate))
    y64 = functions.gated_activation("swiglu_clamped", gate_up64)
    check(kernels.gated_activation("swiglu_clamped", gate_up), y64, bound)
    found = kernels.gated_activation_backward("swiglu_clamped", dy, gate_up)
    expected = functions.gated_activation_backward("swiglu_clamped", dy64, gate_up64)
    check(found, expected, np.tile(np.abs(dy64) * bound, 2))


@pytest.mark.parametrize("name", get_args(Activation))
@pytest.mark.parametrize("shape", [*SHAPES, (40, 1000)])
def test_activations_are_the_same_everywhere(name: Activation, shape: tuple[int, int]) -> None:
    x, dy, gate_up = normal(1, *shape) * 4, normal(2, *shape), normal(3, shape[0], 2 * shape[1]) * 4
    same_everywhere(
        lambda k: (
            k.activation(name, x),
            k.activation_backward(name, dy, x),
            k.gated_activation(name, gate_up),
            k.gated_activation_backward(name, dy, gate_up),
        )
    )


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(("n_batch", "n_token", "n_heads", "head_dim", "dim"), [(2, 5, 3, 6, 4), (3, 70, 2, 32, 32)])
def test_rope(n_batch: int, n_token: int, n_heads: int, head_dim: int, dim: int, interleaved: bool) -> None:
    qkv = normal(1, n_batch * n_token, (n_heads + 1) * head_dim)
    cos, sin = normal(2, n_token, dim // 2), normal(3, n_token, dim // 2)
    for inverse in (False, True):
        expected, cos64, sin64 = exact(qkv, cos, sin)
        functions.rope(expected, n_heads, head_dim, cos64, sin64, interleaved, inverse)

        def run(k: Kernels, inverse: bool = inverse) -> tuple[Any, ...]:
            turned = qkv.copy()
            k.rope(turned, n_heads, head_dim, cos, sin, interleaved, inverse)
            return (turned,)

        same_everywhere(run)
        check(run(Kernels(threads=2))[0], expected, 4 * EPS * np.abs(qkv).max() * np.abs((cos, sin)).max())


# Attention: with s = scale and L the largest entries, a score is off by D EPS of its terms, a probability by that
# relatively, plus T EPS for its sum; each later product adds the length of its own sum.

ATTENTION = [
    (1, 1, 1, 1, 1), (2, 3, 4, 2, 5), (1, 16, 2, 2, 16), (3, 37, 6, 2, 20), (2, 64, 4, 4, 32), (1, 150, 4, 1, 33),
    (2, 129, 2, 1, 64),
]  # fmt: skip


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("rule", [(0, 0.0, False), (1, 0.0, False), (70, 0.0, True), (17, 3.0, False), (0, 0.8, True)])
@pytest.mark.parametrize(("n_batch", "n_token", "n_head", "n_kv_head", "head_dim"), ATTENTION)
def test_attention(
    n_batch: int,
    n_token: int,
    n_head: int,
    n_kv_head: int,
    head_dim: int,
    dropped: bool,
    rule: tuple[int, float, bool],
) -> None:
    qkv = normal(1, n_batch * n_token, (n_head + 2 * n_kv_head) * head_dim)
    dout = normal(2, n_batch * n_token, n_head * head_dim)
    drop = Drop(0.2, 2**63 + 9) if dropped else None
    slopes = np.linspace(0.01, 0.5, n_head).astype(np.float32) if rule[2] else None
    heads = Heads(n_batch, n_head, n_kv_head, head_dim**-0.5, drop, *rule[:2], slopes)

    def run(k: Kernels) -> tuple[Any, ...]:
        out, lse = k.attention(qkv, heads)
        return out, lse, k.attention_backward(dout, qkv, out, lse, heads)

    same_everywhere(run)
    out, lse, dqkv = run(Kernels(threads=2))
    qkv64, dout64 = exact(qkv, dout)
    out64, lse64 = functions.attention(qkv64, heads)
    dqkv64 = functions.attention_backward(dout64, qkv64, out64, lse64, heads)
    largest, steepest = np.abs(qkv64).max(), 1.25 * np.abs(dout64).max()
    score = head_dim**0.5 * largest**2
    relative = 2 * ((head_dim + 8) * score + n_token / 16 + 16) * EPS  # of a probability
    check(lse, lse64, relative + EPS * np.abs(lse64))
    check(out, out64, 1.25 * (relative + n_token * EPS) * largest)
    dp = head_dim * steepest * largest
    value = n_head // n_kv_head * n_token
    ds = dp * head_dim**-0.5 * (4 * relative + (head_dim + n_token) * EPS)
    n_keys = n_kv_head * head_dim
    check(dqkv[:, :-n_keys], dqkv64[:, :-n_keys], 2 * value * largest * ds)
    check(dqkv[:, -n_keys:], dqkv64[:, -n_keys:], value * steepest * (relative + value * EPS))


def test_no_token_sees_those_after_it(kernels: Kernels) -> None:
    """What follows may be anything, and neither outputs nor gradients before it change by a bit."""
    qkv, dout, n = normal(1, 100, 4 * 24), normal(2, 100, 2 * 24), 70
    heads = Heads(1, 2, 1, 0.2, Drop(0.5, 7))
    dout[n:] = 0.0
    found = kernels.attention(qkv, heads)
    gradient = kernels.attention_backward(dout, qkv, *found, heads)
    alone = kernels.attention(qkv[:n], heads)
    np.testing.assert_array_equal(found[0][:n], alone[0])
    np.testing.assert_array_equal(found[1][:, :, :n], alone[1])
    expected = kernels.attention_backward(dout[:n], qkv[:n], *alone, heads)
    np.testing.assert_array_equal(gradient[:n], expected)
    assert not gradient[n:].any()


# The ends of the model.


@pytest.mark.parametrize(("n", "width", "n_vocab"), [(1, 1, 1), (50, 7, 3), (100, 130, 40)])
def test_embedding_backward(n: int, width: int, n_vocab: int) -> None:
    dx, start = normal(1, n, width), normal(2, n_vocab, width)
    ids = np.random.default_rng(3).integers(0, n_vocab, n, np.int32)

    def run(k: Kernels) -> tuple[Any, ...]:
        dweight = start.copy()
        k.embedding_backward(dx, ids, dweight)
        return (dweight,)

    same_everywhere(run)
    expected, sizes = start.astype(np.float64), np.abs(start).astype(np.float64)
    functions.embedding_backward(dx.astype(np.float64), ids, expected)
    functions.embedding_backward(np.abs(dx).astype(np.float64), ids, sizes)
    check(run(Kernels(threads=2))[0], expected, n * EPS * sizes)


@pytest.mark.parametrize(("factor", "cap"), [(1.0, 0.0), (0.3, 0.0), (1.0, 3.0), (2.0, 3.0)])
@pytest.mark.parametrize(("n", "width", "n_vocab"), [(1, 1, 1), (9, 5, 7), (70, 33, 130), (40, 16, 30000)])
def test_cross_entropy(n: int, width: int, n_vocab: int, factor: float, cap: float) -> None:
    hidden, weight, start = normal(1, n, width), normal(2, n_vocab, width), normal(3, n_vocab, width)
    targets = np.random.default_rng(4).integers(-2, n_vocab, n, np.int32)
    targets[0] = 0
    dweight, dweight64 = start.copy(), start.astype(np.float64)
    kernels, logits = Kernels(threads=2), Logits(factor, cap)
    nats, dhidden = kernels.cross_entropy(hidden, weight, targets, 0.7, dweight, logits)
    hidden64, weight64 = exact(hidden, weight)
    nats64, dhidden64 = functions.cross_entropy(hidden64, weight64, targets, 0.7, dweight64, logits)
    assert dhidden is not None
    assert dhidden64 is not None
    # A logit is off by width EPS of its terms, and by some from the cap; a probability by that, and by its sum's
    # n_vocab EPS, relatively. The cap's slope is off by twice a logit's error over the cap.
    terms = factor * (np.abs(hidden64) @ np.abs(weight64).T).max()
    relative = 2 * (width + 8) * EPS * terms + (n_vocab / 8 + 32) * EPS
    assert abs(nats - nats64) <= n * (relative + EPS * nats64)
    check(dhidden, dhidden64, 0.7 * factor * 2 * (relative + n_vocab * EPS) * np.abs(weight64).max())
    at_most = factor * (relative + n * EPS) * n * np.abs(hidden64).max()
    check(dweight, dweight64, 0.7 * at_most + n * EPS * np.abs(start))
    assert kernels.cross_entropy(hidden, weight, targets, 0.7, None, logits) == (nats, None)


def test_cross_entropy_of_a_certain_and_of_an_impossible_token() -> None:
    hidden, weight = np.array([[300.0], [-300.0]], np.float32), np.array([[1.0], [-1.0], [0.0]], np.float32)
    dweight = np.zeros_like(weight)
    nats, dhidden = Kernels(threads=1).cross_entropy(hidden, weight, np.array([0, 0], np.int32), 1.0, dweight)
    assert nats == 600.0
    np.testing.assert_array_equal(dhidden, [[0.0], [-2.0]])
    np.testing.assert_array_equal(dweight, [[300.0], [-300.0], [0.0]])


@pytest.mark.parametrize("n", [0, 1, 17, 200_001])
def test_sum_of_squares(n: int) -> None:
    x = normal(1, n)
    same_everywhere(lambda k: (k.sum_of_squares(x),))
    assert Kernels(threads=2).sum_of_squares(x) == pytest.approx(functions.sum_of_squares(x), rel=1e-13)


@pytest.mark.parametrize("n", [1, 33, 50_000])
def test_adamw(n: int) -> None:
    start = normal(1, n), normal(2, n), normal(3, n), np.square(normal(4, n))
    update = Update(1e-2, 0.9, 0.95, 1e-8, 0.1, 7, 0.3)

    def run(k: Kernels) -> tuple[Any, ...]:
        p, g, m, v = (a.copy() for a in start)
        k.adamw(p, g, m, v, update)
        return p, m, v

    same_everywhere(run)
    p64, g64, m64, v64 = exact(*start)
    functions.adamw(p64, g64, m64, v64, update)
    p, m, v = run(Kernels(threads=2))
    sizes = 0.9 * np.abs(start[2]) + 0.1 * np.abs(start[1])
    check(m, m64, 8 * EPS * sizes)
    check(v, v64, 8 * EPS * v64)
    step = 1e-2 / (1 - 0.9**7) / (np.sqrt(v64 / (1 - 0.95**7)) + 1e-8)
    check(p, p64, 4 * EPS * (np.abs(start[0]) + step * 8 * sizes))
