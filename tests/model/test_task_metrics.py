"""Task metrics against their definitions and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygpt.classification import format_confusion, task_metrics


def test_metrics_by_hand() -> None:
    found = task_metrics([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2], 3)
    assert found.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_f1 == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)


def test_a_class_that_does_not_occur_does_not_count() -> None:
    assert task_metrics([0, 1], [0, 1], 5).macro_f1 == 1.0
    assert task_metrics([0, 0], [1, 1], 5).macro_f1 == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_metrics_are_their_definitions(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(values) for values in zip(*pairs, strict=True))
    found = task_metrics(truth, predicted, 4)
    assert all(found.confusion[i, j] == pairs.count((i, j)) for i in range(4) for j in range(4))
    assert found.accuracy == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
    f1 = []
    for label in {*truth, *predicted}:
        hits = pairs.count((label, label))
        precision, recall = hits / max(predicted.count(label), 1), hits / max(truth.count(label), 1)
        f1.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert found.macro_f1 == pytest.approx(sum(f1) / len(f1))


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [([], [], "at least 1"), ([0], [0, 1], "equally many"), ([0], [3], "from 0 to 2"), ([-1], [0], "from 0 to 2")],
)
def test_what_cannot_be_measured_is_refused(truth: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_metrics(truth, predicted, 3)


def test_the_confusion_matrix_lines_up() -> None:
    lines = format_confusion(np.array([[10, 2], [0, 300]]), ("no", "größer")).splitlines()
    assert [line.split() for line in lines] == [
        ["true", "\\", "predicted", "no", "größer"],
        ["no", "10", "2"],
        ["größer", "0", "300"],
    ]
    assert len({len(line) for line in lines}) == 1
