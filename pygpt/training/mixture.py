"""Several data sets in one run: which of them each sequence comes from, by weights.

Each sequence is of the set that is furthest behind its share of those so far. So no chance is in the shares, and they
hold in every stretch of a run: of n sequences a set of weight w never has more than w n + 1. Data that is added on the
way (`pygpt.training.resume`) changes the weights from its step on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from pygpt.tokenizer import Tokenizer
from pygpt.training.recipe import Recipe
from pygpt.training.sequences import Reader, Rows, side_by_side


class Phase(NamedTuple):
    """What holds after so many steps."""

    after: int
    weights: tuple[float, ...]  # of the first sets


def check_weights(weights: Sequence[float], n_sets: int) -> tuple[float, ...]:
    """The shares, which add up to 1. ValueError, TypeError: not a number above 0 for each of the sets."""
    numbers = isinstance(weights, Collection) and not isinstance(weights, str)
    if not numbers or not all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in weights):
        raise TypeError(f"weights must be numbers, not {weights!r:.80}")
    if len(weights) != n_sets or not all(math.isfinite(w) and w > 0 for w in weights):
        raise ValueError(f"weights must be {n_sets} finite numbers above 0, one for each data set, not {weights!r:.80}")
    shares = [w / max(weights) for w in weights]  # whose sum is finite, however large they are
    return tuple(share / math.fsum(shares) for share in shares)


class Mixture:
    """Data sets, from which the sequences of each step are drawn as a function of the step."""

    def __init__(self, readers: Sequence[Reader], phases: Sequence[Phase], tokenizer: Tokenizer) -> None:
        """`phases` begin with one after step 0. `tokenizer` is that of all sets."""
        self._readers, self._phases, self.tokenizer = readers, phases, tokenizer
        self._restart()

    def _restart(self) -> None:
        self._step = 0  # that `_now` is of
        self._now: list[tuple[int, int]] = []
        self._given = [0] * len(self._readers)
        self._owed = [0.0] * len(self._readers)

    @property
    def weights(self) -> tuple[float, ...]:
        """Those of the first phase."""
        return self._phases[0].weights

    @property
    def counts(self) -> tuple[int, int]:
        """Tokens of the training and of the validation data."""
        return sum(r.n_train for r in self._readers), sum(r.n_validation for r in self._readers)

    @property
    def n_sequences(self) -> float:
        """Of the training data, if each set were read once."""
        return sum(r.n_sequences for r in self._readers)

    def sources(self, step: int, recipe: Recipe) -> list[tuple[int, int]]:
        """Of each sequence of a step, from 1: its data set, and how many of that set came before it in the run."""
        if step < self._step:
            self._restart()
        while self._step < step:
            weights = [phase for phase in self._phases if phase.after <= self._step][-1].weights
            self._step += 1
            self._now = [self._next(weights) for _ in range(recipe.batch_at(self._step))]
        return self._now

    def _next(self, weights: tuple[float, ...]) -> tuple[int, int]:
        for k, weight in enumerate(weights):
            self._owed[k] += weight
        chosen = max(range(len(weights)), key=lambda k: self._owed[k])
        self._owed[chosen] -= 1.0
        self._given[chosen] += 1
        return chosen, self._given[chosen] - 1

    def draw(self, step: int, recipe: Recipe) -> Rows:
        """The batch of a step, a function of the step and of the settings alone: whoever resumes at a step sees the
        batches that would have followed. (The raw numbers of Philox are the same in all versions of NumPy; those of
        `Generator.integers` need not be.)"""
        sources = self.sources(step, recipe)
        numbers = np.random.Philox(np.random.SeedSequence((recipe.seed, step))).random_raw(len(sources))
        return side_by_side(
            [
                self._readers[k].sequence(draw, number, recipe.seed)
                for draw, (k, number) in zip(numbers.tolist(), sources, strict=True)
            ]
        )

    def held_out(self, n: int) -> list[tuple[float, float | None, Rows]]:
        """About n sequences of the validation data that the run began with: each set's weight, its tokens per byte, and
        its sequences."""
        return [
            (weight, reader.tokens_per_byte, side_by_side(reader.held_out(max(1, round(n * weight)))))
            for weight, reader in zip(self.weights, self._readers, strict=False)
        ]
