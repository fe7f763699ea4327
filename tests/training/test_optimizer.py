"""AdamW with clipping, against the formulas written out for one value at a time."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pygpt.training import functions
from pygpt.training.bfloat16 import widened
from pygpt.training.optimizer import AdamW
from pygpt.training.recipe import Recipe


def written_out(params: list[float], gradients: list[list[float]], n_decayed: int, r: Recipe) -> list[float]:
    """The parameters after len(gradients) steps, by the formulas of `AdamW`."""
    out = list(params)
    m, v = [0.0] * len(out), [0.0] * len(out)
    for t, g in enumerate(gradients, 1):
        norm = math.sqrt(sum(x * x for x in g))
        factor = min(1.0, r.clip / norm) if r.clip else 1.0
        lr = r.learning_rate_at(t)
        for i, x in enumerate(g):
            m[i] = r.beta1 * m[i] + (1 - r.beta1) * factor * x
            v[i] = r.beta2 * v[i] + (1 - r.beta2) * (factor * x) ** 2
            decay = r.weight_decay if i < n_decayed else 0.0
            mean, square = m[i] / (1 - r.beta1**t), v[i] / (1 - r.beta2**t)
            out[i] -= lr * decay * out[i] + lr * mean / (math.sqrt(square) + r.eps)
    return out


@pytest.mark.parametrize("clip", [0.0, 0.5, 100.0])
def test_steps_follow_the_formulas(clip: float) -> None:
    recipe = Recipe(
        steps=20, batch=1, learning_rate=0.1, warmup=3, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.5, clip=clip
    )
    rng = np.random.default_rng(0)
    params, gradients = rng.normal(size=7), rng.normal(size=(20, 7))
    expected = written_out(params.tolist(), gradients.tolist(), 4, recipe)
    optimizer = AdamW(functions, params, 4, recipe)
    for step, grads in enumerate(gradients, 1):
        norm = optimizer.norm(grads)
        assert norm == pytest.approx(np.linalg.norm(grads))
        optimizer.update(grads, norm, step)
    np.testing.assert_allclose(params, expected, rtol=1e-12)


def test_only_the_first_values_decay() -> None:
    recipe = Recipe(steps=2, batch=1, learning_rate=0.1, weight_decay=0.5)
    params = np.ones(4, np.float32)
    AdamW(functions, params, 2, recipe).update(np.zeros(4, np.float32), 0.0, 1)
    lr = recipe.learning_rate_at(1)
    np.testing.assert_allclose(params, [1 - lr * 0.5] * 2 + [1.0] * 2, rtol=1e-6)


def rounding() -> Any:
    """NumPy's functions, which say that their products are of bfloat16."""
    return SimpleNamespace(**{**vars(functions), "precision": "bfloat16"})


@pytest.mark.parametrize("primitives", [functions, rounding()])
def test_it_finds_a_minimum(primitives: Any) -> None:
    """Of (p - target)^2, whose gradient is 2 (p - target)."""
    recipe = Recipe(steps=300, batch=1, learning_rate=0.1, warmup=10, clip=1.0)
    target: Any = np.array([3.0, -2.0, 0.5], np.float32)
    params = np.zeros(3, np.float32)
    optimizer = AdamW(primitives, params, 3, recipe)
    for step in range(1, 301):
        grads = 2 * (params - target)
        optimizer.update(grads, optimizer.norm(grads), step)
    np.testing.assert_allclose(params, target, atol=0.01)


@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.95])
def test_a_mean_in_bfloat16_goes_to_where_the_gradients_are(beta1: float) -> None:
    """It stands still where a step moves it by less than half of its last place, 2^-8 of it: (1 - beta1) times its
    distance from the gradient."""
    grads = np.linspace(0.5, 1.5, 100, dtype=np.float32)
    params = np.zeros(100, np.float32)
    optimizer = AdamW(rounding(), params, 100, Recipe(steps=400, batch=1, learning_rate=1e-6, beta1=beta1, clip=0.0))
    assert optimizer.m.dtype == np.uint16
    for step in range(1, 401):
        optimizer.update(grads, 0.0, step)
    off = np.abs(widened(optimizer.m) - grads)
    assert (off <= 2.0**-8 / (1 - beta1) * grads).all()
    assert optimizer.v.dtype == np.float32


def test_a_mean_that_would_stand_still_stays_float32() -> None:
    recipe = Recipe(steps=1, batch=1, learning_rate=0.1, beta1=0.98)
    assert AdamW(rounding(), np.zeros(3, np.float32), 3, recipe).m.dtype == np.float32
