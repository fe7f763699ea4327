"""The NumPy reference: identities that hold for the formulas themselves, without another implementation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import reference
from pygpt.config import Experts, LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.errors import ConfigError, ContextOverflowError

F64 = NDArray[np.float64]

GPT2 = ModelConfig(
    n_vocab=37,
    n_ctx=16,
    n_embd=24,
    n_head=4,
    n_kv_head=4,
    head_dim=6,
    n_inner=29,
    norm="layer_norm",
    norm_eps=1e-5,
    activation="gelu_tanh",
    gated_mlp=False,
    qkv_bias=True,
    attn_out_bias=True,
    mlp_bias=True,
    learned_positions=True,
    layers=LayerConfig(attn_scale=6**-0.5).repeated(2),
)
LLAMA = replace(
    GPT2,
    n_kv_head=2,
    head_dim=10,
    norm="rms_norm",
    activation="silu",
    gated_mlp=True,
    qkv_bias=False,
    attn_out_bias=False,
    mlp_bias=False,
    learned_positions=False,
    layers=LayerConfig(attn_scale=6**-0.5, rope=Rope(theta=10000.0, dim=10)).repeated(2),
    tied_head=False,
)
CONFIGS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "multi-query, erf gelu, no positions": replace(LLAMA.with_layers(rope=None), n_kv_head=1, activation="gelu"),
    "relu, some biases, inverse layer": replace(
        GPT2, activation="relu", qkv_bias=False, layers=(LayerConfig(attn_scale=0.4), LayerConfig(attn_scale=0.2))
    ),
    "post-norm": replace(GPT2, norm_placement="after_sum"),
    "after the branch": replace(GPT2, norm_placement="after_branch"),
    "sandwich": replace(LLAMA, norm_placement="sandwich"),
    "parallel": replace(GPT2, branches="parallel"),
    "parallel, one norm": replace(GPT2, branches="parallel_one_norm"),
    "gated layer norm, learned and rotary": replace(
        GPT2.with_layers(rope=Rope(theta=50.0, dim=4, interleaved=True)), gated_mlp=True
    ),
    "sinusoidal, odd width": replace(GPT2, learned_positions=False, sinusoidal_positions=True, n_embd=23),
    "experts": LLAMA.with_layers(experts=Experts(n_expert=5, n_used=2, n_inner=13, router_bias=True)),
    "experts, weights of all, shared one": GPT2.with_layers(
        experts=Experts(n_expert=4, n_used=3, n_inner=11, normalized=False, shared_inner=17, shared_gate=True)
    ),
}
ROPES = [
    Rope(theta=10000.0, dim=10),
    Rope(theta=10000.0, dim=10, interleaved=True),
    Rope(theta=50.0, dim=6),
    Rope(theta=50.0, dim=4, interleaved=True),
    Rope(theta=10000.0, dim=8, scaling=RopeScaling(kind="llama3", factor=8.0, original_n_ctx=32)),
]
IDS = [3, 36, 0, 7, 7, 21, 14, 2, 30]


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    value: ModelConfig = request.param
    return value


def random_tensors(config: ModelConfig) -> dict[str, F64]:
    """Weights that leave no step without effect: matrices that keep the size of their input, gains around 1."""
    rng = np.random.default_rng(5)
    tensors = {}
    for name, shape in config.tensor_shapes().items():
        values = rng.standard_normal(shape)
        if len(shape) == 2:
            values *= shape[1] ** -0.5
        elif "norm.weight" in name:
            values = 1.0 + 0.3 * values
        tensors[name] = values
    return tensors


def test_erf_is_within_its_stated_bound() -> None:
    x = np.concatenate([np.linspace(-7.0, 7.0, 28001), np.logspace(-300.0, 2.0, 2000), [0.0, np.inf]])
    exact = np.array([math.erf(value) for value in x])
    np.testing.assert_array_less(np.abs(reference.erf(x) - exact), 1e-14 * np.abs(exact) + 1e-320)
    assert np.abs(reference.erf(x)).max() <= 1.0


def test_erf_of_float32_is_float32() -> None:
    x = np.linspace(-5.0, 5.0, 101, dtype=np.float32)
    result = reference.erf(x)
    assert result.dtype == np.float32
    # exp rounds twice and the sum of 32 terms 32 times, each by at most 2**-24 of a sum that is at most 1
    np.testing.assert_allclose(result, [math.erf(value) for value in x], rtol=0, atol=40 * 2.0**-24)


def test_activations_at_known_points() -> None:
    x = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0])
    below = 0.15865525393145707  # the share of a standard normal distribution below -1
    np.testing.assert_allclose(reference.gelu(x), [0, -below, 0, 1 - below, 1000], rtol=1e-14, atol=1e-14 * 1000 / 2)
    np.testing.assert_allclose(reference.silu(x), [0, -1 / (1 + math.e), 0, math.e / (1 + math.e), 1000], rtol=1e-15)
    np.testing.assert_array_equal(reference.relu(x), [0, 0, 0, 1, 1000])
    many = np.linspace(-6.0, 6.0, 1001)
    # Hendrycks and Gimpel's approximation is known to stay within 5e-4 of the exact form
    np.testing.assert_allclose(reference.gelu_tanh(many), reference.gelu(many), rtol=0, atol=5e-4)


def test_norms_of_a_worked_example() -> None:
    x = np.array([[1.0, 3.0]])  # mean 2, variance 1, mean square 5
    gain, bias = np.array([10.0, 100.0]), np.array([0.5, 0.25])
    np.testing.assert_allclose(reference.layer_norm(x, gain, bias, 0.0), [[-9.5, 100.25]], rtol=1e-15)
    np.testing.assert_allclose(reference.layer_norm(x, gain, bias, 3.0), [[-4.5, 50.25]], rtol=1e-15)
    np.testing.assert_allclose(reference.rms_norm(x, gain, 4.0), [[10 / 3, 100.0]], rtol=1e-15)


def heads(n: int, n_token: int, head_dim: int, seed: int = 0) -> F64:
    return np.random.default_rng(seed).standard_normal((n, n_token, head_dim))


@pytest.mark.parametrize("rope", ROPES)
def test_rope_turns_by_complex_numbers(rope: Rope) -> None:
    """Each pair, read as a complex number, is multiplied by exp(i angle); the values beyond rope.dim stay."""
    x = heads(3, 5, 10)
    turned = reference.rope(x, np.arange(5), rope)
    first, second = slice(0, rope.dim // 2), slice(rope.dim // 2, rope.dim)
    if rope.interleaved:
        first, second = slice(0, rope.dim, 2), slice(1, rope.dim, 2)
    expected = (x[..., first] + 1j * x[..., second]) * np.exp(1j * np.outer(np.arange(5), rope.inv_freq()))
    np.testing.assert_allclose(turned[..., first], expected.real, atol=1e-14)
    np.testing.assert_allclose(turned[..., second], expected.imag, atol=1e-14)
    np.testing.assert_array_equal(turned[..., rope.dim :], x[..., rope.dim :])
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])  # position 0 turns by nothing


@pytest.mark.parametrize("rope", ROPES)
def test_rope_scores_depend_on_distance_alone(rope: Rope) -> None:
    q, k = heads(1, 1, 10, seed=1), heads(1, 1, 10, seed=2)

    def score(query_at: int, key_at: int) -> float:
        turned_q = reference.rope(q, np.array([query_at]), rope)
        return float((turned_q * reference.rope(k, np.array([key_at]), rope)).sum())

    assert score(9, 4) == pytest.approx(score(1005, 1000), abs=1e-11)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


@pytest.mark.parametrize("n_embd", [1, 6, 7])
def test_sinusoids_are_the_papers_formula(n_embd: int) -> None:
    config = replace(GPT2, learned_positions=False, sinusoidal_positions=True, n_embd=n_embd)
    expected = np.empty((config.n_ctx, n_embd))
    for t in range(config.n_ctx):
        for column in range(n_embd):
            angle = t / 10000 ** ((column - column % 2) / n_embd)
            expected[t, column] = math.cos(angle) if column % 2 else math.sin(angle)
    np.testing.assert_allclose(config.sinusoids(), expected, rtol=0, atol=1e-14)
    tensors = random_tensors(config)
    learned, table = replace(config, learned_positions=True, sinusoidal_positions=False), {"pos.weight": expected}
    np.testing.assert_allclose(
        reference.forward(config, tensors, IDS), reference.forward(learned, tensors | table, IDS), rtol=0, atol=1e-11
    )
    with pytest.raises(ConfigError, match="must not both be true"):
        replace(config, learned_positions=True)


@pytest.mark.parametrize(
    "rule",
    [{}, {"window": 2}, {"score_cap": 0.3}, {"alibi_slopes": (0.5, 0.25, 1.5, 0.1)}, {"sinks": True},
     {"window": 3, "score_cap": 2.0, "alibi_slopes": (0.1, 0.2, 0.3, 0.4), "sinks": True}],
    ids=lambda rule: ", ".join(rule) or "plain",
)  # fmt: skip
def test_attention_equals_its_formula_written_as_loops(rule: dict[str, Any]) -> None:
    q, k, v = heads(4, 5, 3, seed=1), heads(2, 5, 3, seed=2), heads(2, 5, 3, seed=3)
    layer = LayerConfig(attn_scale=0.7, **rule)
    sinks = np.array([0.5, -1.0, 2.0, 0.0]) if layer.sinks else None
    expected = np.zeros_like(q)
    for head in range(4):
        for t in range(5):
            weights = {}
            for s in range(max(0, t + 1 - (layer.window or 5)), t + 1):
                score = 0.7 * float(q[head, t] @ k[head // 2, s])
                if layer.score_cap is not None:
                    score = layer.score_cap * math.tanh(score / layer.score_cap)
                if layer.alibi_slopes:
                    score += layer.alibi_slopes[head] * (s - t)
                weights[s] = math.exp(score)
            total = sum(weights.values()) + (0.0 if sinks is None else math.exp(sinks[head]))
            for s, weight in weights.items():
                expected[head, t] += weight / total * v[head // 2, s]
    np.testing.assert_allclose(reference.causal_attention(q, k, v, layer, sinks), expected, rtol=1e-13, atol=1e-14)


def test_softmax_of_large_scores() -> None:
    np.testing.assert_array_equal(reference.softmax(np.array([1e4, 1e4, -np.inf])), [0.5, 0.5, 0.0])


def test_no_logit_depends_on_a_later_token(config: ModelConfig) -> None:
    tensors = random_tensors(config)
    logits = reference.forward(config, tensors, IDS)
    assert logits.shape == (len(IDS), config.n_vocab)
    assert np.isfinite(logits).all()
    for t in range(len(IDS)):
        changed = reference.forward(config, tensors, [*IDS[:t], (IDS[t] + 1) % config.n_vocab, *IDS[t + 1 :]])
        if config.layers[0].experts is None:
            np.testing.assert_array_equal(changed[:t], logits[:t])
        else:  # which tokens an expert runs at once may change how a library's product rounds, by an ulp or two
            np.testing.assert_allclose(changed[:t], logits[:t], rtol=1e-12, atol=1e-13)
        assert (np.abs(changed[t:] - logits[t:]).max(axis=-1) > 1e-6).all()  # and every row from t on does depend on it


def test_grouped_queries_equal_repeated_heads() -> None:
    tensors = random_tensors(LLAMA)
    repeated = dict(tensors)
    for layer in range(LLAMA.n_layer):
        for part in ("k", "v"):
            name = f"blocks.{layer}.attn.{part}.weight"
            by_head = tensors[name].reshape(LLAMA.n_kv_head, LLAMA.head_dim, LLAMA.n_embd)
            repeated[name] = np.repeat(by_head, 2, axis=0).reshape(-1, LLAMA.n_embd)
    multi_head = reference.forward(replace(LLAMA, n_kv_head=4), repeated, IDS)
    np.testing.assert_allclose(multi_head, reference.forward(LLAMA, tensors, IDS), rtol=0, atol=1e-12)


def test_attn_scale_equals_scaled_queries() -> None:
    config = replace(GPT2, layers=(LayerConfig(attn_scale=0.25), LayerConfig(attn_scale=0.125)))
    tensors = random_tensors(config)
    scaled = dict(tensors)
    for layer in range(config.n_layer):
        for part in ("weight", "bias"):
            scaled[f"blocks.{layer}.attn.q.{part}"] = tensors[f"blocks.{layer}.attn.q.{part}"] * 0.25 / (layer + 1)
    plain = reference.forward(GPT2.with_layers(attn_scale=1.0), scaled, IDS)
    np.testing.assert_allclose(plain, reference.forward(config, tensors, IDS), rtol=0, atol=1e-12)


def test_logits_are_the_hidden_states_times_the_head() -> None:
    tensors = random_tensors(LLAMA)
    states = reference.hidden(LLAMA, tensors, IDS)
    assert states.shape == (len(IDS), LLAMA.n_embd)
    gain = tensors["norm.weight"]
    np.testing.assert_allclose(np.square(states / gain).mean(axis=-1), 1.0, rtol=1e-3)  # they have passed the norm
    np.testing.assert_array_equal(reference.forward(LLAMA, tensors, IDS), states @ tensors["head.weight"].T)


def test_tied_head_is_the_embedding() -> None:
    tensors = random_tensors(GPT2)
    untied = {**tensors, "head.weight": tensors["embed.weight"]}
    np.testing.assert_array_equal(
        reference.forward(GPT2, tensors, IDS), reference.forward(replace(GPT2, tied_head=False), untied, IDS)
    )


def test_float32_is_computed_in_float32_and_close_to_float64(config: ModelConfig) -> None:
    tensors = random_tensors(config)
    exact = reference.forward(config, tensors, IDS)
    logits = reference.forward(config, tensors, IDS, np.float32)
    assert exact.dtype == np.float64
    assert logits.dtype == np.float32
    # A logit lies behind 13 matrix products in a row: 2 layers of queries, scores, mixing, out, up and down, then the
    # head. Each sums at most 40 terms, for a relative error of 40 * 2**-24 a product: 3.1e-5 in all.
    assert np.abs(logits - exact).max() < 4e-5 * np.abs(exact).max()
    assert np.abs(logits - exact).max() > 0.0


def test_ids_may_be_an_array_and_fill_the_context() -> None:
    tensors = random_tensors(GPT2)
    ids = np.arange(GPT2.n_ctx, dtype=np.int32)
    np.testing.assert_array_equal(
        reference.forward(GPT2, tensors, ids), reference.forward(GPT2, tensors, list(range(16)))
    )


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], ValueError, "at least one token"),
        ([[1, 2]], ValueError, r"shape \(1, 2\)"),
        ([1, 37], ValueError, "id 37 is outside the vocabulary of 37"),
        ([-1, 3], ValueError, "id -1 is outside"),
        ([1.0], TypeError, "must be integers"),
        ([0] * 17, ContextOverflowError, "17 tokens are more than the model's context of 16"),
    ],
)
def test_bad_ids(ids: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reference.forward(GPT2, random_tensors(GPT2), ids)


def test_bad_tensors_and_dtype() -> None:
    tensors = random_tensors(GPT2)
    lacking = {name: values for name, values in tensors.items() if name != "blocks.1.mlp.up.bias"}
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.up\.bias is missing"):
        reference.forward(GPT2, lacking, IDS)
    with pytest.raises(ValueError, match=r"head\.weight is not part of this model"):
        reference.forward(GPT2, {**tensors, "head.weight": tensors["embed.weight"]}, IDS)
    with pytest.raises(ValueError, match=r"pos\.weight must have the shape \(16, 24\), not \(24, 16\)"):
        reference.forward(GPT2, {**tensors, "pos.weight": tensors["pos.weight"].T}, IDS)
    with pytest.raises(ValueError, match="float32 or float64"):
        reference.forward(GPT2, tensors, IDS, np.float16)
