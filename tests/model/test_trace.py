"""`Model.trace`: exact where it must be, and the reference's numbers within rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model, checkpoint, reference, sites

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
ARRAYS = (*sites.NAMES, "attention", "logits", "entropy")
UNIT = 2.0**-24  # the largest relative error of a rounding to float32


@pytest.fixture(params=GOLDENS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def moved_traces(config: pygpt.ModelConfig, tensors: Any, ids: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """The reference's trace, and how far rounding may take each of its arrays: see `rounding_bound` in test_parity.py,
    whose argument holds for what is computed on the way as well. One rounding to float32 comes on top."""
    longest = max(config.n_embd, config.n_inner, config.n_head * config.head_dim, len(ids))
    gamma = longest * UNIT / (1.0 - longest * UNIT)
    exact = reference.trace(config, tensors, ids, attention=True)
    rng, largest = np.random.default_rng(0), dict.fromkeys(exact, 0.0)
    for _ in range(4):
        moved = {}
        for name in config.tensor_shapes():
            values = np.asarray(tensors[name], np.float64)
            moved[name] = values * (1.0 + gamma * rng.choice((-1.0, 1.0), size=values.shape))
        for name, array in reference.trace(config, moved, ids, attention=True).items():
            largest[name] = max(largest[name], float(np.nanmax(np.abs(array - exact[name]))))
    return exact, {name: largest[name] + 2 * UNIT * float(np.nanmax(np.abs(exact[name]))) for name in exact}


def test_every_array_is_the_references(golden: Path) -> None:
    with np.load(golden / "expected.npz") as arrays:
        ids = arrays["ids"]
    config, tensors, _ = checkpoint.read(golden, n_ctx=len(ids))
    model = Model.load(golden, weights="float32", n_ctx=len(ids), threads=1)
    found = model.trace(ids, attention=True)
    exact, bounds = moved_traces(config, tensors, ids)
    assert ("neurons" in exact) == (found.neurons is not None)
    for name in exact:
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert array.shape == exact[name].shape
        assert np.array_equal(np.isnan(array), np.isnan(exact[name]))
        assert np.nanmax(np.abs(array - exact[name])) <= bounds[name], name
    assert np.array_equal(found.logits, model.logits(ids))
    assert np.array_equal(found.lens_logits(config.n_layer - 1), found.logits)
