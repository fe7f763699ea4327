"""How long a step of the scheduler takes: a model of five coefficients, fitted on steps that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_ITERATIONS, _SMALL = 30, 1e-3


class Step(NamedTuple):
    """What the scheduler computes at once."""

    n_rows: int
    """Tokens that are read, of prompts and of answers."""

    n_outputs: int
    """Tokens that are drawn."""

    n_positions: int
    """Cached positions that are read: the contexts of the step's sequences."""

    n_pairs: int
    """Queries times keys: the contexts of the step's tokens."""


@dataclass(frozen=True)
class StepModel:
    """seconds = fixed + bytes / bandwidth + rows * row + outputs * output + pairs * pair, where bytes are those of the
    weights, once, and of the keys and values of each context.

    All terms are sums over what is in the step, so that the steps of a load may be added before they are multiplied.
    """

    fixed: float
    """Seconds that a step takes whatever is in it, the weights' bytes included."""

    position: float
    """Seconds for the bytes of a cached position."""

    row: float
    output: float
    pair: float

    def seconds(self, step: Step) -> float:
        return (
            self.fixed
            + self.position * step.n_positions
            + self.row * step.n_rows
            + self.output * step.n_outputs
            + self.pair * step.n_pairs
        )

    def bandwidth(self, kv_bytes_per_token: int) -> float:
        """Bytes a second at which contexts are read."""
        return kv_bytes_per_token / self.position if self.position else float("inf")


def fit(steps: Sequence[tuple[Step, float]]) -> StepModel:
    """The model that explains measured seconds best: the least sum of absolute relative errors, which steps that
    something else delayed hardly move, over coefficients that are not negative."""
    features = np.array([[1.0, s.n_positions, s.n_rows, s.n_outputs, s.n_pairs] for s, _ in steps])
    rows = features / np.array([t for _, t in steps])[:, None]
    weights = np.ones(len(rows))
    for _ in range(_ITERATIONS):  # reweighted least squares
        x = _non_negative(rows, weights)
        weights = 1 / np.maximum(np.abs(rows @ x - 1), _SMALL)
    return StepModel(*(float(v) for v in x))


def _non_negative(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """x >= 0 with rows @ x nearest to ones; coefficients that would be negative are zero, one after the other."""
    root = np.sqrt(weights)
    scale = np.abs(rows).max(0)
    used = scale > 0
    while True:
        x = np.zeros(rows.shape[1])
        found = np.linalg.lstsq(rows[:, used] * root[:, None] / scale[used], root, rcond=None)[0]
        x[used] = found / scale[used]
        if (x >= 0).all():
            return x
        used &= x > x.min()
