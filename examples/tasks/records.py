"""Predictions in a file of JSON lines, so that nothing is computed twice, and the tables that are made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pygpt.classification import format_confusion, task_metrics
from pygpt.metrics import accuracy


class Records:
    """What methods predicted for the examples of a data set, by method, training size and fold."""

    def __init__(self, file: Path, dataset: str, labels: Sequence[str]) -> None:
        self._file, self._dataset, self._labels = file, dataset, tuple(labels)
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self._found = [record for record in map(json.loads, lines) if record["dataset"] == dataset]

    def has(self, method: str, size: str, fold: int) -> bool:
        """Whether this was done before."""
        return any((r["method"], r["size"], r["fold"]) == (method, size, fold) for r in self._found)

    def add(self, method: str, size: str, fold: int, n_train: int, truth: list[int], predicted: list[int]) -> None:
        """Keep the predictions of one fold, and print what they are worth."""
        record = {"dataset": self._dataset, "method": method, "size": size, "fold": fold, "n_train": n_train}
        record |= {"truth": truth, "predicted": predicted}
        self._found.append(record)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"fold {fold} {self._row([record])}", flush=True)

    def table(self) -> str:
        """A row for each method and size, of the predictions of all folds together."""
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in self._found:
            groups.setdefault((record["method"], record["size"]), []).append(record)
        lines = [
            "| | training examples | accuracy, 95% interval | macro F1 | tested |",
            "| --- | --- | --- | --- | --- |",
        ]
        return "\n".join([*lines, *map(self._row, groups.values())])

    def confusion(self) -> str:
        """The confusion matrix of the last method."""
        last = self._found[-1]
        same = [r for r in self._found if (r["method"], r["size"]) == (last["method"], last["size"])]
        matrix = task_metrics(*_joined(same), len(self._labels)).confusion
        return f"{last['method']}\n{format_confusion(matrix, self._labels)}"

    def _row(self, records: list[dict[str, Any]]) -> str:
        truth, predicted = _joined(records)
        right = accuracy(a == b for a, b in zip(truth, predicted, strict=True))
        f1 = task_metrics(truth, predicted, len(self._labels)).macro_f1
        n_train = round(sum(r["n_train"] for r in records) / len(records))
        interval = f"{100 * right.value:.1f}% ({100 * right.low:.1f} to {100 * right.high:.1f})"
        return f"| {records[0]['method']} | {n_train} | {interval} | {100 * f1:.1f}% | {right.n} |"


def _joined(records: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    truth, predicted = ([i for record in records for i in record[part]] for part in ("truth", "predicted"))
    return truth, predicted
