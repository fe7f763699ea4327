"""Whole models' loss and gradients against PyTorch's, which tests/make_gradients.py stored in tests/data/gradients."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import checkpoint, families
from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.tensor import Stored
from pygpt.config import ModelConfig
from pygpt.families.base import Settings
from pygpt.training import functions
from pygpt.training.kernels import Kernels
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Ids, Primitives

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/gradients/*/expected.npz"))
Floats = NDArray[np.floating[Any]]


@dataclass
class Model:
    """A model and a batch."""

    config: ModelConfig
    tensors: dict[str, Floats]
    ids: Ids
    targets: Ids

    @staticmethod
    def random(config: ModelConfig) -> Model:
        rng = np.random.default_rng(1)
        tensors = {name: 0.4 * rng.standard_normal(shape) for name, shape in config.tensor_shapes().items()}
        tensors = {n: np.asarray(t + n.endswith("norm.weight"), np.float32) for n, t in tensors.items()}
        ids, targets = (rng.integers(low, config.n_vocab, (3, config.n_ctx), np.int32) for low in (0, -1))
        return Model(config, tensors, ids, targets)

    def computed(
        self, primitives: Primitives, dtype: type[np.floating[Any]], tensors: dict[str, Floats] | None = None
    ) -> tuple[float, Parameters]:
        """The mean loss and the gradients that pygpt gives, for these or other values of the parameters."""
        params, grads = Parameters(self.config, dtype), Parameters(self.config, dtype)
        params.fill(self.tensors if tensors is None else tensors)
        network = Network(self.config, primitives)
        nats, count = network.loss_and_gradients(params, grads, self.ids, self.targets)
        return nats / count, grads

    def bounds(self, unit: float) -> tuple[float, dict[str, float]]:
        """How far the loss and each tensor's gradient may lie from the exact values when every step rounds with
        relative error `unit`: as `rounding_bound` in tests/model/test_parity.py, every parameter is moved by k unit, k
        being the longest sum, and the largest move of each result in a few draws is its bound. Sums of the backward
        pass run over the inner width, the vocabulary, or all tokens of the batch."""
        c = self.config
        gamma = unit * max(c.n_embd, c.n_inner, c.n_head * c.head_dim, c.n_vocab, self.ids.size)
        loss, exact = self.computed(functions, np.float64)
        rng = np.random.default_rng(0)
        of_loss, of_gradients = 0.0, dict.fromkeys(exact.tensors, 0.0)
        for _ in range(4):
            moved = {}
            for name, tensor in self.tensors.items():
                values = np.asarray(tensor, np.float64)
                moved[name] = values * (1.0 + gamma * rng.choice((-1.0, 1.0), size=values.shape))
            moved_loss, grads = self.computed(functions, np.float64, moved)
            of_loss = max(of_loss, abs(moved_loss - loss))
            for name, gradient in grads.tensors.items():
                of_gradients[name] = max(of_gradients[name], float(np.abs(gradient - exact.tensors[name]).max()))
        return of_loss, of_gradients


class Golden(Model):
    """A checkpoint, and what PyTorch computed for it in float64."""

    def __init__(self, folder: Path) -> None:
        config, tensors, _ = checkpoint.read(folder)
        with np.load(folder / "expected.npz") as arrays:
            stored = dict(arrays)
        ids, targets = stored.pop("ids").astype(np.int32), stored.pop("targets").astype(np.int32)
        super().__init__(config, {name: np.asarray(tensor) for name, tensor in tensors.items()}, ids, targets)
        self.loss = float(stored.pop("loss"))
        self.gradients = named_canonically(folder, config, stored)


def named_canonically(folder: Path, config: ModelConfig, stored: dict[str, Floats]) -> dict[str, Floats]:
    """Gradients have the names and the layout of the tensors in the checkpoint, so they are read as those are."""
    values = json.loads((folder / "config.json").read_text())
    family = families.by_model_type(Settings(values=values, file="config.json"))
    entries = {
        name: Stored(folder, name, "F64", values.shape, "float32", functools.partial(np.asarray, values))
        for name, values in stored.items()
    }
    sources = {name: source._replace(minus_one=False) for name, source in family.sources.items()}
    tensors = canonical(folder, config, entries, sources, family.prefix)
    return {name: tensor.raw() for name, tensor in tensors.items()}  # type: ignore[misc]


@pytest.fixture(scope="module", params=GOLDENS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_every_golden_is_there() -> None:
    names = "bloom gemma2 gpt1 gpt2 gpt_neox gptj granite llama-tied-biases llama-untied olmo2 opt-projected qwen3"
    assert [path.name for path in GOLDENS] == names.split()


@pytest.mark.parametrize(
    ("primitives", "dtype", "unit", "most"),
    [
        (functions, np.float64, 2.0**-53, 1e-12),
        (functions, np.float32, 2.0**-24, 1e-3),
        (Kernels(threads=2), np.float32, 2.0**-24, 1e-3),
    ],
    ids=["float64", "float32", "kernels"],
)
def test_loss_and_gradients_are_pytorchs(
    golden: Golden, primitives: Primitives, dtype: type[np.floating[Any]], unit: float, most: float
) -> None:
    check(golden, golden.computed(primitives, dtype), (golden.loss, golden.gradients), unit, most)


def test_the_compiled_core_does_every_configuration(config: ModelConfig) -> None:
    """In float32 what the functions of NumPy do in float64, which tests/training/test_network.py checks."""
    model = Model.random(config)
    loss, grads = model.computed(functions, np.float64)
    check(model, model.computed(Kernels(threads=2), np.float32), (loss, grads.tensors), 2.0**-24, 1e-2)


def check(
    model: Model, found: tuple[float, Parameters], expected: tuple[float, dict[str, Floats]], unit: float, most: float
) -> None:
    """Within the bounds of rounding, which are at most `most` of each result."""
    of_loss, of_gradients = model.bounds(unit)
    assert of_loss <= most * expected[0]
    assert abs(found[0] - expected[0]) <= of_loss
    for name, gradient in expected[1].items():
        bound = of_gradients[name]
        layer = model.config.layers[0]
        plain = layer.rope is None and layer.score_cap is None and not layer.sinks
        if name.endswith("attn.k.bias") and plain:
            # Without rotary positions a bias of the keys adds the same to all scores of a query, which changes nothing:
            # the gradient is 0, and no move shows how it is rounded. q, k and v come from one product.
            assert np.abs(gradient).max() <= of_gradients[name.replace(".k.", ".q.")]
            bound = of_gradients[name.replace(".k.", ".q.")]
        else:
            assert bound <= most * np.abs(gradient).max(), name
        assert np.abs(found[1].tensors[name] - gradient).max() <= bound, name
