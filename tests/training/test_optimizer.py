"""AdamW with clipping, against the formulas written out for one value at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pygpt.training import functions
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


def test_it_finds_a_minimum() -> None:
    """Of (p - target)^2, whose gradient is 2 (p - target)."""
    recipe = Recipe(steps=300, batch=1, learning_rate=0.1, warmup=10, clip=1.0)
    target: Any = np.array([3.0, -2.0, 0.5], np.float32)
    params = np.zeros(3, np.float32)
    optimizer = AdamW(functions, params, 3, recipe)
    for step in range(1, 301):
        grads = 2 * (params - target)
        optimizer.update(grads, optimizer.norm(grads), step)
    np.testing.assert_allclose(params, target, atol=0.01)
