"""Several data sets in one run: which of them each sequence comes from, by weights.

A set with the weight w has had w n of the first n sequences, to within one: each sequence is of the set that is furthest
behind its share. So the weights hold in every stretch of a run, and no chance is in them. Data that is added on the way
(`pygpt.training.resume`) changes the shares from its step on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pygpt.training.sequences import Reader, Rows, side_by_side


class Phase(NamedTuple):
    """What holds after so many steps."""

    after: int
    weights: tuple[float, ...]  # of the first sets


def check_weights(weights: Sequence[float], n_sets: int) -> tuple[float, ...]:
    """The shares, which add up to 1. ValueError, TypeError: not a number above 0 for each of the sets."""
    if isinstance(weights, str) or not all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in weights):
        raise TypeError(f"weights must be numbers, not {weights!r:.80}")
    if len(weights) != n_sets or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(f"weights must be {n_sets} finite numbers above 0, one for each data set, not {weights!r:.80}")
    return tuple(float(w) / math.fsum(weights) for w in weights)


class Mixture:
    """Data sets, from which the sequences of each step are drawn as a function of the step."""

    def __init__(
        self, readers: Sequence[Reader], phases: Sequence[Phase], seed: int, batch_at: Callable[[int], int]
    ) -> None:
        """`phases` begin with one after step 0; `batch_at`: the sequences in the batch of a step, from 1."""
        self._readers, self._phases, self._seed, self._batch_at = readers, phases, seed, batch_at
        self._steps: list[list[tuple[int, int]]] = []  # of each step's sequences: the set, and how many it gave before
        self._given = [0] * len(readers)
        self._owed = [0.0] * len(readers)

    @property
    def weights(self) -> tuple[float, ...]:
        """Those of the first phase."""
        return self._phases[0].weights

    @property
    def counts(self) -> tuple[int, int]:
        """Tokens of the training and of the validation data."""
        return sum(r.n_train for r in self._readers), sum(r.n_validation for r in self._readers)

    def sources(self, step: int) -> list[tuple[int, int]]:
        """Of each sequence of a step: its data set, and how many of that set came before it in the run."""
        while len(self._steps) < step:
            at = len(self._steps)
            weights = [phase for phase in self._phases if phase.after <= at][-1].weights
            self._steps.append([self._next(weights) for _ in range(self._batch_at(at + 1))])
        return self._steps[step - 1]

    def _next(self, weights: tuple[float, ...]) -> tuple[int, int]:
        for k, weight in enumerate(weights):
            self._owed[k] += weight
        chosen = max(range(len(weights)), key=lambda k: self._owed[k])
        self._owed[chosen] -= 1.0
        self._given[chosen] += 1
        return chosen, self._given[chosen] - 1

    def draw(self, step: int) -> Rows:
        """The batch of a step, a function of (seed, step) and of the settings alone: whoever resumes at a step sees the
        batches that would have followed. (The raw numbers of Philox are the same in all versions of NumPy.)"""
        sources = self.sources(step)
        numbers = np.random.Philox(np.random.SeedSequence((self._seed, step))).random_raw(len(sources))
        return side_by_side(
            [
                self._readers[k].sequence(draw, number, self._seed)
                for draw, (k, number) in zip(numbers.tolist(), sources, strict=True)
            ]
        )

    def held_out(self, n: int) -> list[tuple[float, float, Rows]]:
        """About n sequences of the validation data that the run began with: each set's weight, its tokens per byte, and
        its sequences."""
        return [
            (weight, reader.tokens_per_byte, side_by_side(reader.held_out(max(1, round(n * weight)))))
            for weight, reader in zip(self.weights, self._readers, strict=False)
        ]
