"""A whole model's gradients against finite differences, and its forward pass against the reference, in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pygpt import reference
from pygpt.config import Experts, ModelConfig
from pygpt.errors import ConfigError
from pygpt.training import functions
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters

SHAPE = (2, 5)


@pytest.fixture
def params(config: ModelConfig) -> Parameters:
    """Not the usual start: biases and gains that matter."""
    params = Parameters(config, np.float64)
    params.flat[:] = np.random.default_rng(1).standard_normal(len(params.flat)) * 0.4
    return params


@pytest.fixture
def batch(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    ids = generator.integers(0, config.n_vocab, SHAPE, np.int32)
    targets = generator.integers(-1, config.n_vocab, SHAPE, np.int32)
    targets[0, 0] = -1
    return ids, targets


def test_what_has_no_backward_pass_is_refused_by_name(configs: dict[str, ModelConfig]) -> None:
    config = configs["llama"]
    experts = Experts(n_expert=3, n_used=2, n_inner=4)
    layers = (config.layers[0], replace(config.layers[1], experts=experts))
    with pytest.raises(ConfigError, match=r"layer 1 has experts Experts.* which can be run but not trained"):
        Network(replace(config, layers=layers), functions)


def test_the_forward_pass_is_the_references(
    config: ModelConfig, params: Parameters, batch: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, targets = batch
    network = Network(config, functions)
    hidden, _ = network.hidden(params, ids)
    expected = np.concatenate([reference.hidden(config, params.tensors, row) for row in ids])
    assert np.abs(hidden - expected).max() <= 1e-13 * np.abs(expected).max()
    logits = np.stack([reference.forward(config, params.tensors, row) for row in ids])
    p = reference.softmax(logits)
    nats = -sum(np.log(p[i][targets[i]]) for i in np.ndindex(SHAPE) if targets[i] >= 0)
    assert network.loss(params, ids, targets) == (pytest.approx(nats, rel=1e-13), int((targets >= 0).sum()))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_finite_differences(
    config: ModelConfig, params: Parameters, batch: tuple[np.ndarray, np.ndarray], dropout: float
) -> None:
    """Of 200 values of each model, some of every tensor, as tests/training/test_functions.py bounds them."""
    ids, targets = batch
    network = Network(config, functions, dropout)
    grads = Parameters(config, np.float64)

    def loss() -> float:
        rng = np.random.default_rng(3)  # the same values are dropped each time
        nats, count = network.loss_and_gradients(params, Parameters(config, np.float64), ids, targets, rng=rng)
        return nats / count

    network.loss_and_gradients(params, grads, ids, targets, rng=np.random.default_rng(3))
    largest = np.abs(grads.flat).max()
    generator = np.random.default_rng(4)
    for name, tensor in params.tensors.items():
        flat, gradient = tensor.reshape(-1), grads.tensors[name].reshape(-1)
        for i in generator.choice(len(flat), min(len(flat), 6), replace=False):
            value = flat[i]
            flat[i] = value + 1e-5
            above = loss()
            flat[i] = value - 1e-5
            below = loss()
            flat[i] = value
            assert gradient[i] == pytest.approx((above - below) / 2e-5, abs=1e-7 * max(largest, 1.0)), f"{name}[{i}]"


def test_gradients_of_micro_batches_add_up(
    config: ModelConfig, params: Parameters, batch: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, targets = batch
    network = Network(config, functions)
    whole, parts = Parameters(config, np.float64), Parameters(config, np.float64)
    nats, count = network.loss_and_gradients(params, whole, ids, targets)
    sums = [
        network.loss_and_gradients(params, parts, ids[i : i + 1], targets[i : i + 1], 1.0 / count) for i in range(2)
    ]
    assert sum(n for n, _ in sums) == pytest.approx(nats, rel=1e-14)
    assert sum(n for _, n in sums) == count
    assert np.abs(whole.flat - parts.flat).max() <= 1e-14 * np.abs(whole.flat).max()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_bit(
    config: ModelConfig, params: Parameters, batch: tuple[np.ndarray, np.ndarray], dropout: float
) -> None:
    found = []
    for again in (False, True):
        network = Network(config, functions, dropout, gradient_checkpointing=again)
        grads = Parameters(config, np.float64)
        nats, _ = network.loss_and_gradients(params, grads, *batch, rng=np.random.default_rng(3))
        found.append((nats, grads.flat.tobytes()))
    assert found[0] == found[1]


def test_parameters_are_views_of_one_array(config: ModelConfig) -> None:
    params = Parameters(config)
    assert {name: t.shape for name, t in params.tensors.items()} == config.tensor_shapes()
    for i, tensor in enumerate(params.tensors.values()):
        tensor += i + 1
    assert params.flat.min() == 1.0  # each value belongs to a tensor
    assert all(np.array_equal(t, np.full_like(t, i + 1)) for i, t in enumerate(params.tensors.values()))  # and to one
    assert sum(t.size for t in params.tensors.values() if t.ndim == 2) == params.n_decayed
    q, k, v = (params.tensors[f"blocks.1.attn.{x}.weight"] for x in "qkv")
    stacked = params.stacked(tuple(f"blocks.1.attn.{x}.weight" for x in "qkv"))
    assert stacked is not None
    assert np.shares_memory(stacked, k)
    assert np.array_equal(stacked, np.concatenate((q, k, v)))
    assert params.stacked(("nothing", "nowhere")) is None
    with pytest.raises(AssertionError, match="nothing"):
        params.stacked(("blocks.1.attn.q.weight", "nothing"))


def test_initialisation(config: ModelConfig) -> None:
    params = Parameters(config)
    params.initialise(7)
    again = Parameters(config)
    again.initialise(7)
    assert np.array_equal(params.flat, again.flat)
    again.initialise(8)
    assert not np.array_equal(params.flat, again.flat)
    for name, tensor in params.tensors.items():
        if name.endswith("norm.weight"):
            assert np.all(tensor == 1.0)
        elif name.endswith(".bias"):
            assert not tensor.any()
        else:
            spread = 0.02 / (2.0 if name.endswith(("out.weight", "down.weight")) else 1.0)  # sqrt(2 x 2 layers)
            assert abs(tensor.std() / spread - 1.0) < 5 / (2 * tensor.size) ** 0.5
            assert abs(tensor.mean()) < 5 * spread / tensor.size**0.5


def test_filling_checks_names_and_shapes(config: ModelConfig) -> None:
    params, source = Parameters(config), Parameters(config)
    source.initialise(1)
    params.fill(source.tensors)
    assert np.array_equal(params.flat, source.flat)
    with pytest.raises(ValueError, match=r"tensor more is not part of this model"):
        params.fill(source.tensors | {"more": np.zeros(1)})
    with pytest.raises(ValueError, match=r"tensor embed\.weight is missing"):
        params.fill({k: v for k, v in source.tensors.items() if k != "embed.weight"})
    with pytest.raises(
        ValueError, match=rf"embed\.weight must have the shape \(11, {config.embed_width}\), not \(11, 7\)"
    ):
        params.fill(source.tensors | {"embed.weight": np.zeros((11, 7))})
