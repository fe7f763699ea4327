"""The reference against the original implementations, and the core against the reference.

The checkpoints and their expected logits in tests/data/parity were made by tests/make_parity.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import pygpt
from pygpt import checkpoint, reference
from pygpt.config import ModelConfig

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
UNIT_FLOAT32, UNIT_FLOAT64 = 2.0**-24, 2.0**-53  # the largest relative error of one rounding


def rounding_bound(config: ModelConfig, tensors: Mapping[str, ArrayLike], ids: NDArray[np.int64], unit: float) -> float:
    """How far logits may lie from the exact ones when every step rounds with relative error `unit`.

    A sum of k products, in whatever order, is the exact sum with each product changed by a relative error of at most
    gamma_k = k unit / (1 - k unit) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1).
    So a forward pass with rounding is an exact one with slightly different weights, and what such a change does to the
    logits can be measured: every weight is moved by gamma of the longest sum, up or down at random. The errors of exp,
    tanh and the norms are a few units, the sums over keys and head values are no longer than the longest matrix row
    here, and true errors grow like sqrt(k) rather than k, so the largest move seen in a few draws is a bound with
    room to spare, but only by a factor of about the square root of k.
    """
    longest = max(config.n_embd, config.n_inner, config.n_head * config.head_dim, len(ids))
    gamma = longest * unit / (1.0 - longest * unit)
    exact = reference.forward(config, tensors, ids)
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(4):
        moved = {}
        for name in config.tensor_shapes():
            values = np.asarray(tensors[name], np.float64)
            moved[name] = values * (1.0 + gamma * rng.choice((-1.0, 1.0), size=values.shape))
        largest = max(largest, float(np.abs(reference.forward(config, moved, ids) - exact).max()))
    return largest


@pytest.fixture(params=GOLDENS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def expected(golden: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ids (T,) and the logits (T, n_vocab) of the original implementation."""
    with np.load(golden / "expected.npz") as arrays:
        return arrays["ids"], arrays["logits"]


def test_every_golden_is_there() -> None:
    assert len(GOLDENS) == 8


def test_reference_equals_original(golden: Path) -> None:
    config, tensors, _ = checkpoint.read(golden)
    ids, logits = expected(golden)
    bound = rounding_bound(config, tensors, ids, UNIT_FLOAT64)
    assert bound < 1e-11
    difference = np.abs(reference.forward(config, tensors, ids) - logits).max()
    assert difference <= bound


def core_difference(golden: Path, **options: Any) -> tuple[float, float]:
    """The largest difference between the core's logits and the reference's in float64, and its bound."""
    config, tensors, _ = checkpoint.read(golden)
    ids, _ = expected(golden)
    logits = pygpt.Model.load(golden, kv="float32", **options).logits(ids)
    assert logits.dtype == np.float32
    difference = float(np.abs(logits - reference.forward(config, tensors, ids)).max())
    return difference, rounding_bound(config, tensors, ids, UNIT_FLOAT32)


def test_core_in_float32_equals_reference(golden: Path) -> None:
    difference, bound = core_difference(golden, weights="float32")
    assert bound < 1e-2
    assert difference <= bound


@pytest.mark.parametrize("name", ["gpt2-inner77-untied-unscaled", "llama-tied", "llama-linear-rope-gelu-multi-head"])
def test_core_in_bfloat16_equals_reference(name: str) -> None:
    """These are stored in bfloat16, so packing them as bfloat16 rounds nothing and the float32 bound holds."""
    (golden,) = (path for path in GOLDENS if path.name == name)
    difference, bound = core_difference(golden, weights="bfloat16")
    assert difference <= bound
