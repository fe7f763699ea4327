"""How good a classifier's answers are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class TaskMetrics(NamedTuple):
    """Of predicted classes against the true ones."""

    accuracy: float
    macro_f1: float
    confusion: NDArray[np.int64]
    """(n, n): row i, column j counts the examples of class i that were taken for class j."""


def task_metrics(truth: ArrayLike, predicted: ArrayLike, n_classes: int) -> TaskMetrics:
    """Accuracy, macro F1 and the confusion matrix of classes from 0 to n_classes - 1.

    F1 of a class is 2 TP / (2 TP + FP + FN); macro F1 is their plain mean over the classes that occur, as an answer or
    in truth. ValueError: no examples, lists of different lengths, a class out of range.
    """
    true, guess = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if true.ndim != 1 or true.shape != guess.shape or not len(true):
        raise ValueError(f"truth and predicted must be equally many classes, at least 1: {true.shape}, {guess.shape}")
    if min(true.min(), guess.min()) < 0 or max(true.max(), guess.max()) >= n_classes:
        raise ValueError(f"classes must be from 0 to {n_classes - 1}")
    confusion = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(confusion, (true, guess), 1)
    hits = np.diagonal(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)  # 2 TP + FP + FN
    f1 = 2 * hits[either > 0] / either[either > 0]
    return TaskMetrics(float(hits.sum() / len(true)), float(f1.mean()), confusion)


def format_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> str:
    """The confusion matrix as lines of text: a row a true label, a column a predicted one."""
    cells = [
        ["true \\ predicted", *labels],
        *([label, *map(str, row)] for label, row in zip(labels, confusion, strict=True)),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in cells)
