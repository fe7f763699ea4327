"""Which examples train and which test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from data import Rows, folds_of, shuffled


class Split(NamedTuple):
    """Numbers of examples, both in an order of chance."""

    fold: int
    train: list[int]
    test: list[int]


def splits(rows: Rows, n_test: int, n_folds: int, seed: int) -> Iterator[Split]:
    """The publisher's division, or folds, so that every example is tested once."""
    if n_test:
        n_train = len(rows) - n_test
        yield Split(0, shuffled(n_train, seed), [n_train + i for i in shuffled(n_test, seed)])
        return
    folds, order = folds_of([label for _, label in rows], n_folds, seed), shuffled(len(rows), seed)
    for fold in range(n_folds):
        yield Split(fold, [i for i in order if folds[i] != fold], [i for i in order if folds[i] == fold])


def first_of_each(rows: Rows, chosen: list[int], n: int) -> list[int]:
    """The first n of the chosen or so, with each label's share kept, and at least one example of each."""
    if n >= len(chosen):
        return chosen
    counts = Counter(rows[i][1] for i in chosen)
    left = {label: max(1, round(n * count / len(chosen))) for label, count in counts.items()}
    kept = []
    for i in chosen:
        if left[rows[i][1]] > 0:
            left[rows[i][1]] -= 1
            kept.append(i)
    return kept
