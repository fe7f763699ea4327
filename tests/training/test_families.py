"""Every family that has goldens of the original's logits is trained, or refused by what it has that is not.

The forward pass is the reference's, which tests/model/test_parity.py compares with the original's; so gradients are
right where they are its differences.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import pygpt
from pygpt import checkpoint, reference
from pygpt.checkpoint.tensor import Tensor
from pygpt.cli.merge import merge
from pygpt.errors import ConfigError
from pygpt.training import functions
from pygpt.training.architecture import architecture
from pygpt.training.base import load_base
from pygpt.training.kernels import Kernels
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Ids

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
EXPERTS = [path for path in GOLDENS if "experts" in (path / "config.json").read_text(encoding="utf-8")]


@pytest.fixture(params=[path for path in GOLDENS if path not in EXPERTS], ids=lambda path: path.name)
def params(request: pytest.FixtureRequest) -> Parameters:
    """A family's small random model, in float64."""
    config, tensors, _ = checkpoint.read(request.param)
    params = Parameters(config, np.float64)
    params.fill(tensors)
    return params


@pytest.fixture
def ids(params: Parameters) -> Ids:
    """(2, T)"""
    config = params.config
    return np.random.default_rng(3).integers(config.n_vocab, size=(2, min(config.n_ctx, 20)), dtype=np.int32)


def test_gradients_are_differences_of_the_references_loss(params: Parameters, ids: Ids) -> None:
    config, network, grads = params.config, Network(params.config, functions), Parameters(params.config, np.float64)
    hidden, _ = network.hidden(params, ids)
    expected = np.concatenate([reference.hidden(config, params.tensors, row) for row in ids])
    assert np.abs(hidden - expected).max() <= 1e-12 * np.abs(expected).max()
    nats, count = network.loss_and_gradients(params, grads, ids, ids[:, ::-1])
    assert network.loss(params, ids, ids[:, ::-1]) == (pytest.approx(nats, rel=1e-13), count)
    # Along a random direction in each tensor. A central difference has the error of the loss's rounding, some 1e-14,
    # over h, beside h^2 / 6 times the third derivative; and h is so small that no ReLU is passed at 0.
    rng, h = np.random.default_rng(4), 1e-6
    for name, tensor in params.tensors.items():
        start, direction = tensor.copy(), rng.standard_normal(tensor.shape)
        direction /= np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            tensor[...] = start + sign * h * direction
            losses.append(network.loss(params, ids, ids[:, ::-1])[0] / count)
        tensor[...] = start
        along = float(np.sum(grads.tensors[name] * direction))
        assert along == pytest.approx((losses[0] - losses[1]) / (2 * h), abs=1e-6), name


def test_a_step_against_the_gradient_lowers_the_loss(params: Parameters, ids: Ids, tmp_path: Path) -> None:
    """On the compiled core; and what was trained is written and read again."""
    config = params.config
    values, grads = Parameters(config), Parameters(config)
    values.fill(params.tensors)
    network = Network(config, Kernels(threads=2))
    before, _ = network.loss_and_gradients(values, grads, ids, ids)
    values.flat -= grads.flat * np.float32(1e-3 / np.linalg.norm(grads.flat))
    assert network.loss(values, ids, ids)[0] < before
    checkpoint.write(tmp_path / "trained", config, values.tensors)
    found, tensors, _ = checkpoint.read(tmp_path / "trained")
    assert found == config
    for name, tensor in values.tensors.items():  # a gain that is stored less 1 is rounded once more
        rounding = 2.0**-24 if name.endswith("norm.weight") else 0.0
        assert np.abs(np.asarray(tensors[name]) - tensor).max() <= rounding * np.abs(tensor).max(), name


@pytest.mark.parametrize("golden", EXPERTS, ids=lambda path: path.name)
def test_experts_are_refused_before_weights_are_read(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "__array__", None)
    with pytest.raises(ConfigError, match=r"layer \d+ has experts .* which can be run but not trained"):
        load_base(str(golden))


@pytest.mark.parametrize("task", [None, "classification"])
def test_a_model_stays_of_its_family(
    gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    """Where another's config.json could say the same: a Phi-3 without a window is a Llama."""
    monkeypatch.setattr("pygpt.training.plot.draw", lambda path, metrics: None)  # takes longer than the test
    _, _, tokenizer = checkpoint.read(gpt2_folder)
    assert tokenizer is not None
    config = architecture("llama", n_vocab=tokenizer.n_vocab, n_ctx=16, n_layer=1, n_head=2, n_embd=16)
    params = Parameters(config)
    params.initialise(0)
    base, data, out = tmp_path / "base", tmp_path / "data.csv", tmp_path / "run"
    checkpoint.write(base, config, params.tensors, tokenizer, family="phi3")
    data.write_text("text,label\n" + "".join(f"in the {i},up\non an {i},down\n" for i in range(10)), encoding="utf-8")
    pygpt.finetune(base, data, out, task=task, lora=2, steps=1, batch=2, threads=1)
    merge(str(base), out / "best-adapters", tmp_path / "merged")
    for folder in (base, out / "best", tmp_path / "merged"):
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "phi3"
        assert "model.layers.0.self_attn.qkv_proj.weight" in load_file(folder / "model.safetensors")
