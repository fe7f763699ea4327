"""Adapters: their gradients, what they leave alone, their files, and that merging changes no logit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pygpt import reference
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError
from pygpt.training import functions
from pygpt.training.lora import OF_TOKENS, Lora, adapted_names, merge
from pygpt.training.network import Network
from pygpt.training.parameters import FlatTensors, Parameters

TARGETS = ("q", "v", "down")
TABLE = json.dumps({"task": "classification", "labels": ["a", "b", "c"], "start": 0, "delimiter": 1, "extract": 2})


def make(config: ModelConfig, dtype: type = np.float64, first_row: int | None = None) -> Lora:
    """Adapters of a random model whose B is not zero, beside another tensor that is trained."""
    params = Parameters(config, dtype, {"classifier.weight": (3, config.n_embd), "classifier.bias": (3,)})
    rng = np.random.default_rng(1)
    params.flat[:] = rng.standard_normal(len(params.flat)) * 0.4
    names = adapted_names(config, TARGETS)
    lora = Lora(params, names, 2, 5.0, first_row=first_row, seed=3)
    lora.trained.flat[:] += rng.standard_normal(len(lora.trained.flat)) * 0.1
    return lora


def tensors_of(params: Parameters) -> dict[str, np.ndarray]:
    return {name: params.tensors[name].copy() for name in params.config.tensor_shapes()}


def test_training_begins_with_the_model_as_it_was(config: ModelConfig) -> None:
    params = Parameters(config)
    params.initialise(0)
    before = params.flat.copy()
    lora = Lora(params, adapted_names(config, ["q"]), 2, 4.0)
    assert all(tensor.any() == name.endswith("lora_a") for name, tensor in lora.trained.tensors.items())
    lora.materialise()
    assert np.array_equal(params.flat, before)


def test_only_the_adapters_and_new_values_are_trained(config: ModelConfig) -> None:
    lora = make(config, first_row=config.n_vocab - 2)
    adapted = len(adapted_names(config, TARGETS))
    n_new = 2 * config.embed_width * (1 if config.tied_head else 2) + 2 * config.head_bias + 3 * config.n_embd + 3
    shapes = config.tensor_shapes()
    per_matrix = [2 * sum(shapes[name]) for name in lora.names]
    assert (len(lora.names), len(lora.trained.flat)) == (adapted, sum(per_matrix) + n_new)
    before = tensors_of(lora.params)
    lora.materialise()
    for name, tensor in before.items():
        changed = (tensor != lora.params.tensors[name]).reshape(len(tensor), -1).any(axis=1)
        new_rows = name in OF_TOKENS
        assert changed[-2:].all() if name in lora.names or new_rows else not changed.any()
        assert not (new_rows and changed[:-2].any())


def test_gradients_are_those_of_finite_differences(config: ModelConfig) -> None:
    lora = make(config, first_row=config.n_vocab - 2)
    network, grads = Network(config, functions), lora.gradients()
    ids = np.random.default_rng(2).integers(0, config.n_vocab, (2, 5), np.int32)

    def loss(grads: FlatTensors) -> float:
        lora.materialise()
        nats, count = network.loss_and_gradients(lora.params, grads, ids, ids[:, ::-1])
        return nats / count + float((lora.params.tensors["classifier.weight"] ** 2).sum())

    loss(grads)
    grads.tensors["classifier.weight"][...] = 2 * lora.params.tensors["classifier.weight"]
    largest = np.abs(grads.flat).max()
    for i in np.random.default_rng(4).choice(len(grads.flat), 60, replace=False):
        value = lora.trained.flat[i]
        lora.trained.flat[i] = value + 1e-5
        above = loss(lora.gradients())
        lora.trained.flat[i] = value - 1e-5
        below = loss(lora.gradients())
        lora.trained.flat[i] = value
        assert grads.flat[i] == pytest.approx((above - below) / 2e-5, abs=1e-7 * max(largest, 1.0)), i


@pytest.mark.parametrize("targets", [("q", "v"), ("k",)])
def test_of_matrices_that_share_their_input_some_are_adapted(config: ModelConfig, targets: tuple[str, ...]) -> None:
    """The gradients of A and B are what the whole matrix's gradient is, by the chain rule."""
    params = Parameters(config, np.float64)
    params.flat[:] = np.random.default_rng(1).standard_normal(len(params.flat)) * 0.4
    lora = Lora(params, adapted_names(config, targets), 2, 4.0)
    for name in lora.names:
        lora.trained.tensors[f"{name}.lora_b"][...] = 0.1
    lora.materialise()
    network, grads, whole = Network(config, functions), lora.gradients(), Parameters(config, np.float64)
    ids = np.random.default_rng(2).integers(0, config.n_vocab, (2, 5), np.int32)
    assert network.loss_and_gradients(params, grads, ids, ids[:, ::-1]) == network.loss_and_gradients(
        params, whole, ids, ids[:, ::-1]
    )
    for name in lora.names:
        a, b = (lora.trained.tensors[f"{name}.lora_{of}"] for of in "ab")
        da, db = (grads.tensors[f"{name}.lora_{of}"] for of in "ab")
        np.testing.assert_allclose(da, 2.0 * b.T @ whole.tensors[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(db, 2.0 * whole.tensors[name] @ a.T, rtol=1e-9, atol=1e-12)


def test_merging_gives_the_adapted_models_logits(config: ModelConfig, tmp_path: Path) -> None:
    first_row = config.n_vocab - 2
    lora = make(config, np.float32, first_row)
    base = tensors_of(lora.params)
    lora.write(tmp_path, TABLE)
    lora.materialise()
    ids = np.arange(config.n_ctx) % config.n_vocab
    adapted = reference.forward(config, tensors_of(lora.params), ids)
    assert np.abs(adapted - reference.forward(config, base, ids)).max() > 1e-3
    # The model that the adapters were trained for had no rows for the last two tokens.
    base = {name: tensor[:first_row] if name in OF_TOKENS else tensor for name, tensor in base.items()}
    smaller = dataclasses.replace(config, n_vocab=first_row)
    merged = merge(smaller, base, tmp_path)
    assert merged.config == config
    assert np.array_equal(reference.forward(config, merged.tensors, ids), adapted)
    assert merged.classifier is not None
    assert np.array_equal(merged.classifier.weight, lora.params.tensors["classifier.weight"])


def test_adapters_know_their_model(config: ModelConfig, tmp_path: Path) -> None:
    lora = make(config, np.float32)
    lora.write(tmp_path, TABLE)
    tensors = tensors_of(lora.params)
    name = lora.names[0]
    tensors[name][0, 0] += 1e-3
    with pytest.raises(CheckpointError, match="differ from those they were trained for"):
        merge(config, tensors, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rank", 0, "must be above 0"),
        ("rank", 3, "of rank 3"),
        ("alpha", float("inf"), "must be above 0"),
        ("alpha", "1", "alpha is '1'"),
        ("matrices", [], "different names"),
        ("matrices", ["blocks.0.attn.nothing.weight"], "no matrix blocks.0.attn.nothing.weight"),
        ("first_row", True, "first_row is True"),
        ("more", 1, "must be a table of"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, config: ModelConfig, key: str, value: object, message: str) -> None:
    lora = make(config, np.float32)
    lora.write(tmp_path, TABLE)
    path = tmp_path / "adapters.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        merge(config, tensors_of(lora.params), tmp_path)


@pytest.mark.parametrize("targets", [[], ["q", "q"], ["q", "x"], ["attn_norm"]])
def test_targets_are_checked(config: ModelConfig, targets: list[str]) -> None:
    with pytest.raises(ValueError, match="lora targets must be some of q, k, v, out"):
        adapted_names(config, targets)


@pytest.mark.parametrize(
    ("rank", "alpha", "message"),
    [
        (0, 1.0, "rank must be an integer from 1 to"),
        (1000, 1.0, "rank must be an integer from 1 to"),
        (True, 1.0, "rank must be an integer"),
        (1, 0.0, "alpha must be a number above 0"),
        (1, float("nan"), "alpha must be a number above 0"),
    ],
)
def test_rank_and_alpha_are_checked(config: ModelConfig, rank: int, alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lora(Parameters(config), adapted_names(config, ["q"]), rank, alpha)


def test_tensors_that_belong_to_nothing_are_refused(config: ModelConfig, tmp_path: Path) -> None:
    lora = make(config, np.float32)
    lora.write(tmp_path, None)
    with pytest.raises(CheckpointError, match=r"'classifier\.bias', which is no adapter's"):
        merge(config, tensors_of(lora.params), tmp_path)
