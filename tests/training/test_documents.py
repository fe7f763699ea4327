"""Documents that stand side by side in a sequence: each has the states, loss and gradients that it has alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pygpt.config import ModelConfig
from pygpt.training import functions
from pygpt.training.documents import documents
from pygpt.training.kernels import Kernels
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters

LENGTHS = ((3, 1, 2), (6,), (2, 4))  # of the documents in three sequences of 6 tokens
POSITIONS = np.array([[i for n in row for i in range(n)] for row in LENGTHS], np.int32)


def batch(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    ids = generator.integers(0, config.n_vocab, POSITIONS.shape, np.int32)
    return ids, generator.integers(-1, config.n_vocab, POSITIONS.shape, np.int32)


def alone(array: np.ndarray) -> list[np.ndarray]:
    """Each document's part of an array, (1, t)."""
    return [array.reshape(-1)[rows][None] for rows in documents(POSITIONS)]


def start(config: ModelConfig, dtype: Any) -> Parameters:
    params = Parameters(config, dtype)
    params.flat[:] = np.random.default_rng(1).standard_normal(len(params.flat)) * 0.4
    return params


def test_states_are_those_of_each_document_alone(config: ModelConfig) -> None:
    """With the compiled core to the bit: its sums do not depend on what stands beside them."""
    network, params = Network(config, Kernels(threads=2)), start(config, np.float32)
    ids, targets = batch(config)
    packed, _ = network.hidden(params, ids, positions=POSITIONS)
    apart = [network.hidden(params, one)[0] for one in alone(ids)]
    assert packed.tobytes() == np.concatenate(apart).tobytes()
    nats, n_targets = network.loss(params, ids, targets, POSITIONS)
    each = [network.loss(params, *pair) for pair in zip(alone(ids), alone(targets), strict=True)]
    assert n_targets == sum(n for _, n in each) == (targets >= 0).sum()
    assert nats == pytest.approx(sum(n for n, _ in each), rel=1e-12)
    assert nats != network.loss(params, ids, targets)[0]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_sum_of_each_documents_alone(config: ModelConfig, dropout: float) -> None:
    network, params = Network(config, functions, dropout), start(config, np.float64)
    ids, targets = batch(config)
    packed, apart = Parameters(config, np.float64), Parameters(config, np.float64)
    if dropout:  # the same mask for both: dropout of whole sequences, each of which is one document
        rows = np.zeros_like(POSITIONS) + np.arange(POSITIONS.shape[1], dtype=np.int32)
        network.loss_and_gradients(params, packed, ids, targets, 0.5, np.random.default_rng(3), rows)
        network.loss_and_gradients(params, apart, ids, targets, 0.5, np.random.default_rng(3))
    else:
        network.loss_and_gradients(params, packed, ids, targets, 0.5, positions=POSITIONS)
        for one, target in zip(alone(ids), alone(targets), strict=True):
            network.loss_and_gradients(params, apart, one, target, 0.5)
    assert np.abs(packed.flat - apart.flat).max() <= 1e-13 * np.abs(apart.flat).max()


def test_gradients_on_the_core_are_those_in_numpy(config: ModelConfig) -> None:
    ids, targets = batch(config)
    grads = []
    for primitives in (functions, Kernels(threads=2)):
        grads.append(Parameters(config))
        rng = np.random.default_rng(3)
        network = Network(config, primitives, 0.2)
        network.loss_and_gradients(start(config, np.float32), grads[-1], ids, targets, None, rng, POSITIONS)
    assert np.abs(grads[0].flat - grads[1].flat).max() <= 2e-5 * np.abs(grads[0].flat).max()


@pytest.mark.parametrize(
    ("positions", "message"), [([[1, 2]], "0 at the start"), ([[0, 2]], "from 0"), ([[0, 1], [2, 3]], "0 at the start")]
)
def test_positions_that_are_none(positions: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        documents(np.array(positions, np.int32))
