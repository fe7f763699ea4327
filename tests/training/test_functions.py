"""Each layer's backward pass against finite differences in float64, and its forward pass against the reference.

A central difference with step h has an error of about h^2 |f'''| / 6 + 1e-16 |f| / h: with values of order 1 and
h = 1e-5, 1e-10 of the gradient's size. The bound allows 1e-7 of the largest gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import reference
from pygpt.config import Activation, LayerConfig, Rope
from pygpt.training import attention as attention_module
from pygpt.training import functions
from pygpt.training.primitives import Drop, Heads, Logits, Update

Array = NDArray[np.float64]
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "silu", "relu")


def differences(f: Callable[[], float], x: Array) -> Array:
    """The gradient of f with respect to x, which f reads."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        x[i] = value + 1e-5
        above = f()
        x[i] = value - 1e-5
        below = f()
        x[i] = value
        gradient[i] = (above - below) / 2e-5
    return gradient


def check(f: Callable[[], float], x: Array, gradient: Array) -> None:
    expected = differences(f, x)
    assert gradient.shape == x.shape
    assert np.abs(gradient - expected).max() <= 1e-7 * max(np.abs(expected).max(), 1.0)


@pytest.fixture
def draw() -> Callable[..., Array]:
    generator = np.random.default_rng(5)

    def normal(*shape: int) -> Array:
        return generator.standard_normal(shape)

    return normal


@pytest.mark.parametrize("biased", [True, False])
def test_linear(draw: Callable[..., Array], biased: bool) -> None:
    x, weight, bias, along = draw(5, 3), draw(4, 3), draw(4) if biased else None, draw(5, 4)
    y = functions.linear(x, weight, bias)
    assert y.shape == (5, 4)

    def loss() -> float:
        return float((functions.linear(x, weight, bias) * along).sum())

    dweight, dbias = np.ones_like(weight), None if bias is None else np.ones_like(bias)
    check(loss, x, functions.linear_backward(along, x, weight, dweight, dbias))
    check(loss, weight, dweight - 1.0)  # gradients are added to what is there
    if bias is not None and dbias is not None:
        check(loss, bias, dbias - 1.0)


def test_layer_norm(draw: Callable[..., Array]) -> None:
    x, weight, bias, along = draw(5, 7), draw(7), draw(7), draw(5, 7)
    y, stats = functions.layer_norm(x, weight, bias, 1e-5)
    assert np.abs(y - reference.layer_norm(x, weight, bias, 1e-5)).max() < 1e-14

    def loss() -> float:
        return float((functions.layer_norm(x, weight, bias, 1e-5)[0] * along).sum())

    dweight, dbias = np.ones(7), np.ones(7)
    check(loss, x, functions.layer_norm_backward(along, x, weight, stats, dweight, dbias))
    check(loss, weight, dweight - 1.0)
    check(loss, bias, dbias - 1.0)


def test_rms_norm(draw: Callable[..., Array]) -> None:
    x, weight, along = draw(5, 7), draw(7), draw(5, 7)
    y, stats = functions.rms_norm(x, weight, 1e-5)
    assert np.abs(y - reference.rms_norm(x, weight, 1e-5)).max() < 1e-14

    def loss() -> float:
        return float((functions.rms_norm(x, weight, 1e-5)[0] * along).sum())

    dweight = np.ones(7)
    check(loss, x, functions.rms_norm_backward(along, x, weight, stats, dweight))
    check(loss, weight, dweight - 1.0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch, name: Activation) -> None:
    monkeypatch.setattr(functions, "_PIECE", 5)
    x, along = 3.0 * draw(4, 6), draw(4, 6)
    check(
        lambda: float((functions.activation(name, x) * along).sum()), x, functions.activation_backward(name, along, x)
    )


@pytest.mark.parametrize("name", get_args(Activation))
def test_gated_activations(draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch, name: Activation) -> None:
    monkeypatch.setattr(functions, "_PIECE", 5)
    gate_up, along = 5.0 * draw(4, 6), draw(4, 3)
    gated = functions.gated_activation(name, gate_up)
    assert np.array_equal(gated, reference.gated(name, gate_up[:, :3], gate_up[:, 3:]))
    if name == "swiglu_clamped":  # of each side of each limit some
        assert {bool(b) for b in (gate_up[:, :3] > 7.0).flat} == {True, False}
        assert (gate_up[:, 3:] > 7.0).any()
        assert (gate_up[:, 3:] < -7.0).any()
    check(
        lambda: float((functions.gated_activation(name, gate_up) * along).sum()),
        gate_up,
        functions.gated_activation_backward(name, along, gate_up),
    )


@pytest.mark.parametrize("interleaved", [True, False])
def test_rope(draw: Callable[..., Array], interleaved: bool) -> None:
    n_batch, n_token, n_heads, head_dim = 2, 3, 3, 6  # two heads turn, in four of their six values
    rotary = Rope(theta=10.0, dim=4, interleaved=interleaved)
    angle = np.outer(np.arange(n_token), rotary.inv_freq())
    qkv, along = draw(n_batch * n_token, n_heads * head_dim), draw(n_batch * n_token, n_heads * head_dim)

    def turned(x: Array, inverse: bool) -> Array:
        y = x.copy()
        functions.rope(y, 2, head_dim, np.cos(angle), np.sin(angle), interleaved, inverse)
        return y

    heads = qkv.reshape(n_batch, n_token, n_heads, head_dim).swapaxes(1, 2)
    expected = heads.copy()
    for i in range(n_batch):
        expected[i, :2] = reference.rope(heads[i, :2], np.arange(n_token), rotary)
    assert np.array_equal(turned(qkv, False), expected.swapaxes(1, 2).reshape(qkv.shape))
    assert np.abs(turned(turned(qkv, False), True) - qkv).max() < 1e-15
    check(lambda: float((turned(qkv, False) * along).sum()), qkv, turned(along, True))


@pytest.mark.parametrize(("n_head", "n_kv_head"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention(
    draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch, n_head: int, n_kv_head: int, dropped: bool
) -> None:
    n_batch, n_token, head_dim, scale = 3, 5, 3, 0.6
    monkeypatch.setattr(attention_module, "_SCORES", 2 * n_head * n_token**2)  # two sequences, then one
    qkv = draw(n_batch * n_token, (n_head + 2 * n_kv_head) * head_dim)
    along = draw(n_batch * n_token, n_head * head_dim)
    heads = Heads(n_batch, n_head, n_kv_head, scale, Drop(0.5, 2) if dropped else None)
    out, lse = functions.attention(qkv, heads)
    if not dropped:
        split = qkv.reshape(n_batch, n_token, -1, head_dim).swapaxes(1, 2)
        q, k, v = np.split(split, [n_head, n_head + n_kv_head], axis=1)
        for i in range(n_batch):
            by_head = reference.causal_attention(q[i], k[i], v[i], LayerConfig(attn_scale=scale))
            expected = by_head.swapaxes(0, 1).reshape(n_token, -1)
            assert np.abs(out[i * n_token : (i + 1) * n_token] - expected).max() < 1e-14
    check(
        lambda: float((functions.attention(qkv, heads)[0] * along).sum()),
        qkv,
        functions.attention_backward(along, qkv, out, lse, heads),
    )


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(
    "rule", [{"window": 2}, {"score_cap": 0.7}, {"window": 3, "score_cap": 2.0, "alibi_slopes": (0.5, 0.25, 1.5, 0.1)}]
)
def test_attention_by_rules(draw: Callable[..., Array], rule: dict[str, Any], sinks: bool) -> None:
    n_batch, n_token, n_head, n_kv_head, head_dim = 2, 5, 4, 2, 3
    layer = LayerConfig(attn_scale=0.6, sinks=sinks, **rule)
    qkv, added = draw(n_batch * n_token, (n_head + 2 * n_kv_head) * head_dim), draw(n_head)
    along, dsinks = draw(n_batch * n_token, n_head * head_dim), np.ones(n_head)
    slopes = np.array(layer.alibi_slopes) if layer.alibi_slopes else None
    heads = Heads(n_batch, n_head, n_kv_head, 0.6, None, layer.window or 0, layer.score_cap or 0.0, slopes)

    def forward() -> tuple[Array, Array]:
        out, lse = functions.attention(qkv, heads)
        if sinks:
            attention_module.join_sinks(out, lse, added)
        return out, lse

    out, lse = forward()
    q, k, v = np.split(qkv.reshape(n_batch, n_token, -1, head_dim).swapaxes(1, 2), [4, 6], axis=1)
    for i in range(n_batch):
        by_head = reference.causal_attention(q[i], k[i], v[i], layer, added if sinks else None)
        expected = by_head.swapaxes(0, 1).reshape(n_token, -1)
        assert np.abs(out[i * n_token : (i + 1) * n_token] - expected).max() < 1e-14
    check(lambda: float((forward()[0] * along).sum()), qkv, functions.attention_backward(along, qkv, out, lse, heads))
    if sinks:
        attention_module.sinks_backward(along, out, lse, added, dsinks)
        check(lambda: float((forward()[0] * along).sum()), added, dsinks - 1.0)


def test_embedding(draw: Callable[..., Array]) -> None:
    weight, along, ids = draw(6, 3), draw(4, 3), np.array([5, 0, 5, 2], np.int32)
    dweight = np.ones_like(weight)
    functions.embedding_backward(along, ids, dweight)
    check(lambda: float((weight[ids] * along).sum()), weight, dweight - 1.0)


@pytest.mark.parametrize("n_rows", [1, 5, 1000])
def test_cross_entropy(draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    hidden, weight, targets = draw(5, 3), 3.0 * draw(7, 3), np.array([6, 0, -1, 3, 3], np.int32)
    expected = -sum(np.log(reference.softmax(hidden @ weight.T))[i, t] for i, t in enumerate(targets) if t >= 0)
    monkeypatch.setattr(functions, "_CHUNK", 7 * n_rows)
    dweight = np.ones_like(weight)
    nats, dhidden = functions.cross_entropy(hidden, weight, targets, 0.25, dweight)
    assert nats == pytest.approx(expected, rel=1e-14)
    assert functions.cross_entropy(hidden, weight, targets, 1.0, None) == (nats, None)

    def loss() -> float:
        return 0.25 * functions.cross_entropy(hidden, weight, targets, 1.0, None)[0]

    assert dhidden is not None
    check(loss, hidden, dhidden)
    check(loss, weight, dweight - 1.0)


@pytest.mark.parametrize(("scale", "limit"), [(1.0, 0.0), (0.3, 0.0), (1.0, 2.0), (3.0, 2.0)])
def test_cross_entropy_of_what_becomes_of_logits(draw: Callable[..., Array], scale: float, limit: float) -> None:
    hidden, weight, bias, targets = draw(5, 3), draw(7, 3), draw(7), np.array([6, 0, -1, 3, 3], np.int32)
    scores = scale * (hidden @ weight.T + bias)
    p = reference.softmax(reference.capped(scores, limit) if limit else scores)
    expected = -sum(np.log(p[i, t]) for i, t in enumerate(targets) if t >= 0)
    dweight, dbias = np.ones_like(weight), np.ones_like(bias)
    logits = Logits(scale, limit, bias, dbias)
    nats, dhidden = functions.cross_entropy(hidden, weight, targets, 0.25, dweight, logits)
    assert nats == pytest.approx(expected, rel=1e-14)

    def loss() -> float:
        return 0.25 * functions.cross_entropy(hidden, weight, targets, 1.0, None, logits)[0]

    assert dhidden is not None
    check(loss, hidden, dhidden)
    check(loss, weight, dweight - 1.0)
    check(loss, bias, dbias - 1.0)


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    weight = np.array([[1e4], [-1e4]])
    nats, dhidden = functions.cross_entropy(np.ones((1, 1)), weight, np.array([1], np.int32), 1.0, np.zeros((2, 1)))
    assert nats == 2e4
    assert dhidden is not None
    assert np.array_equal(dhidden, [[2e4]])


def test_sum_of_squares(draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_PIECE", 16)
    x = draw(50).astype(np.float32)
    assert functions.sum_of_squares(x) == pytest.approx(float(np.sum(x.astype(np.float64) ** 2)), rel=1e-14)
    assert functions.sum_of_squares(x[:0]) == 0.0


def test_adamw_is_the_papers_algorithm(draw: Callable[..., Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_PIECE", 3)
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.95, 1e-3, 0.2
    params, m, v = draw(8), np.zeros(8), np.zeros(8)
    expected, m_, v_ = params.copy(), np.zeros(8), np.zeros(8)
    for step in range(1, 4):
        grads = draw(8)
        functions.adamw(params, grads, m, v, Update(lr, beta1, beta2, eps, decay, step, 0.5))
        g = 0.5 * grads
        m_ = beta1 * m_ + (1 - beta1) * g
        v_ = beta2 * v_ + (1 - beta2) * g * g
        m_hat, v_hat = m_ / (1 - beta1**step), v_ / (1 - beta2**step)
        expected = expected - lr * m_hat / (np.sqrt(v_hat) + eps) - lr * decay * expected
        assert np.abs(params - expected).max() < 1e-14
