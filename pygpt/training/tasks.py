"""Labelled examples: a task's columns, read from tables or JSON lines (`pygpt.training.tables`), checked and split.

    classification  text, label
    entailment      premise, hypothesis, label
    similarity      a, b, label
    choice          prompt, label (the right answer's number, from 0), and the answers: in a table the columns choice0,
                    choice1, ..., of which the last ones may be empty in a row; in JSON lines these or a list, choices

Other columns are passed over. Labels are any texts; JSON lines may have integers as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pygpt.classification import Input, Task, check_input
from pygpt.errors import TrainingError
from pygpt.training.batches import shuffled
from pygpt.training.tables import SUFFIXES, read_records

TEXT_COLUMNS: dict[Task, tuple[str, ...]] = {
    "classification": ("text",),
    "entailment": ("premise", "hypothesis"),
    "similarity": ("a", "b"),
    "choice": ("prompt",),
}
_ANSWER = re.compile(r"choice(0|[1-9][0-9]*)")


class Row(NamedTuple):
    """One example as a file has it."""

    item: Input
    label: str
    place: str  # file and line, for messages


class TaskData(NamedTuple):
    """Labelled examples, split."""

    labels: tuple[str, ...]  # none for a choice
    train: list[tuple[Input, int]]
    validation: list[tuple[Input, int]]


def load_task(
    data: Path, task: Task, *, validation: float | Path, labels: Sequence[str] | None = None, seed: int = 0
) -> TaskData:
    """Read and split a task's examples.

    data: a file, or a folder with one train and one validation file (train.csv and validation.csv, say).
    validation: the share of a file's examples, of each label alike, that is held out; or a file of its own.
    labels: the labels in the order that the classifier is to have; None: those that occur in training, sorted.

    TrainingError: see `read_rows`; a label that does not occur in training, or that `labels` lacks; fewer than 2.
    """
    if data.is_dir():
        if isinstance(validation, Path):
            raise TrainingError(f"{data}: a folder holds its own validation file; give {validation} with a file")
        train_file, validation = _in_folder(data, "train"), _in_folder(data, "validation")
    else:
        train_file = data
    rows = read_rows(train_file, task)
    if task == "choice":
        train, held_out = _split(rows, [""] * len(rows), validation, task, seed)
        return TaskData((), *([(r.item, int(r.label)) for r in part] for part in (train, held_out)))
    train, held_out = _split(rows, [r.label for r in rows], validation, task, seed)
    counts = Counter(r.label for r in train)
    known = tuple(sorted(counts)) if labels is None else tuple(labels)
    if len(known) < 2 or len(set(known)) != len(known):
        raise TrainingError(f"{train_file}: a task needs at least 2 different labels, not {', '.join(known) or 'none'}")
    for label in known:
        if label not in counts:
            raise TrainingError(f"{train_file}: the label {label!r} never occurs in training")
    for row in (*train, *held_out):
        if row.label not in known:
            why = "does not occur in training" if labels is None else f"is none of {', '.join(known)}"
            raise TrainingError(f"{row.place}: the label {row.label!r} {why}")
    number = {label: i for i, label in enumerate(known)}
    return TaskData(known, *([(r.item, number[r.label]) for r in part] for part in (train, held_out)))


def read_rows(path: Path, task: Task) -> list[Row]:
    """The examples of one file. TrainingError names the file, the line and the column: one that is missing or occurs
    twice, a text that is empty or none, a label that is none; see `pygpt.training.tables.read_records` for the rest."""
    return [_row(task, values, place) for values, place in read_records(path, (*TEXT_COLUMNS[task], "label"))]


def _row(task: Task, values: Mapping[str, object], place: str) -> Row:
    try:
        return Row(*_example(task, values), place)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{place}: {error}") from None


def _example(task: Task, values: Mapping[str, object]) -> tuple[Input, str]:
    """The input and the label of one record. ValueError, TypeError."""
    label = values["label"]
    if type(label) is int:
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"column 'label': the label must be a text or an integer, not {label!r}")
    texts = [_text(name, values[name]) for name in TEXT_COLUMNS[task]]
    if task != "choice":
        return check_input(task, texts[0] if len(texts) == 1 else tuple(texts)), label.strip()
    item = check_input(task, (texts[0], _answers(values)))
    if not label.strip().isdecimal() or int(label) >= len(item[1]):
        raise ValueError(
            f"column 'label': the label must be the right answer's number, from 0 to {len(item[1]) - 1}, not {label!r}"
        )
    return item, label.strip()


def _text(column: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"column {column!r}: must be a text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"column {column!r}: a text must not be empty")
    return value


def _answers(values: Mapping[str, object]) -> list[str]:
    """The answers of a choice in the order of their numbers, wherever their columns stand."""
    columns = {int(match[1]): name for name in values if (match := _ANSWER.fullmatch(name))}
    if "choices" in values:
        if columns:
            raise ValueError(f"columns 'choices' and {columns[min(columns)]!r}: answers stand in one or the other")
        if not isinstance(values["choices"], list):
            raise TypeError("column 'choices': must be a list; a table has choice0, choice1, ...")
        return [_text(f"choices[{i}]", value) for i, value in enumerate(values["choices"])]
    for number in range(len(columns)):
        if number not in columns:
            raise ValueError(f"no column 'choice{number}', but {columns[max(columns)]!r}: answers count from 0")
    answers = [values[columns[number]] for number in range(len(columns))]
    while answers and answers[-1] in ("", None):  # other examples have more answers
        answers.pop()
    return [_text(columns[i], value) for i, value in enumerate(answers)]


def _in_folder(folder: Path, stem: str) -> Path:
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) != 1:
        raise TrainingError(f"{folder}: needs one of {', '.join(stem + suffix for suffix in SUFFIXES)}")
    return found[0]


def _split(
    rows: list[Row], strata: Sequence[str], validation: float | Path, task: Task, seed: int
) -> tuple[list[Row], list[Row]]:
    """Training and validation rows; of each stratum, the same share is held out, at least one row of two or more."""
    if isinstance(validation, Path):
        return rows, read_rows(validation, task)
    if not 0.0 < validation < 1.0:
        raise TrainingError(f"the share of examples held out must be above 0 and below 1, not {validation}")
    held_out: set[int] = set()
    for number, stratum in enumerate(sorted(set(strata))):
        members = np.array([i for i, s in enumerate(strata) if s == stratum])
        n = min(max(1, round(validation * len(members))), len(members) - 1)
        held_out.update(members[shuffled(len(members), seed, number)[:n]].tolist())
    if not held_out:
        raise TrainingError(f"{rows[0].place}: too few examples to hold any out: give a validation file")
    return [r for i, r in enumerate(rows) if i not in held_out], [r for i, r in enumerate(rows) if i in held_out]
