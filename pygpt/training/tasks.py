"""Labelled examples: read from tables or JSON lines, checked, split, and cut into padded batches.

A file is .csv (comma-separated, quotes as usual), .tsv (tab-separated, quotes are plain characters) or .jsonl (a JSON
object a line). Its first row, or each object, names the columns:

    classification  text, label
    entailment      premise, hypothesis, label
    similarity      a, b, label
    choice          prompt, label (the right answer's number, from 0), and the answers: in a table the columns choice0,
                    choice1, ..., of which the last ones may be empty; in JSON lines a list, choices

Other columns are passed over. Labels are any texts; JSON lines may have integers as well.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt.classification import Input, SpecialIds, Task, check_input, form
from pygpt.errors import TrainingError
from pygpt.tokenizer import Tokenizer

TEXT_COLUMNS: dict[Task, tuple[str, ...]] = {
    "classification": ("text",),
    "entailment": ("premise", "hypothesis"),
    "similarity": ("a", "b"),
    "choice": ("prompt",),
}
SUFFIXES = (".csv", ".tsv", ".jsonl")


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
    """The examples of one file. TrainingError names file and line, or the byte that is not UTF-8: a missing column, an
    empty text, a label that is none, a line that is no JSON object."""
    if path.suffix not in SUFFIXES:
        raise TrainingError(f"{path}: examples are read from {', '.join(SUFFIXES)} files")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: not UTF-8: byte {error.start} is 0x{content[error.start]:02x}") from None
    records = _json_lines(path, text) if path.suffix == ".jsonl" else _table(path, text)
    rows = []
    for line, record in records:
        place = f"{path}, line {line}"
        try:
            rows.append(Row(*_example(task, record), place))
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{place}: {error}") from None
    if not rows:
        raise TrainingError(f"{path}: no examples")
    return rows


def _example(task: Task, record: Mapping[str, object]) -> tuple[Input, str]:
    """The input and the label of one record. ValueError, TypeError."""
    for name in (*TEXT_COLUMNS[task], "label"):
        if record.get(name) is None:
            raise ValueError(f"no column {name!r}; {task} needs {', '.join(TEXT_COLUMNS[task])} and label")
    label = record["label"]
    if type(label) is int:
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"the label must be a text or an integer, not {label!r}")
    texts = [record[name] for name in TEXT_COLUMNS[task]]
    if task != "choice":
        return check_input(task, texts[0] if len(texts) == 1 else tuple(texts)), label.strip()
    if "choices" in record:
        answers = record["choices"]
    else:
        answers = [str(v) for k, v in record.items() if k.startswith("choice") and k[6:].isdecimal() and v]
    item = check_input(task, (texts[0], answers))
    if not label.strip().isdecimal() or int(label) >= len(item[1]):
        raise ValueError(f"the label must be the right answer's number, from 0 to {len(item[1]) - 1}, not {label!r}")
    return item, label.strip()


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"{path}, line {number}: not valid JSON: {error}") from None
        if not isinstance(record, dict):
            raise TrainingError(f"{path}, line {number}: not a JSON object")
        yield number, record


def _table(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    stream = io.StringIO(text, newline="")
    if path.suffix == ".tsv":
        reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(stream, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TrainingError(f"{path}, line {line}: {error}") from None
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            continue
        if len(cells) > len(header):
            raise TrainingError(f"{path}, line {line}: {len(cells)} cells, but {len(header)} columns")
        yield line, dict(zip(header, cells, strict=False))


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
        held_out.update(members[_shuffled(len(members), seed, number)[:n]].tolist())
    if not held_out:
        raise TrainingError(f"{rows[0].place}: too few examples to hold any out: give a validation file")
    return [r for i, r in enumerate(rows) if i not in held_out], [r for i, r in enumerate(rows) if i in held_out]


class Encoded(NamedTuple):
    """Examples as token sequences."""

    examples: list[list[NDArray[np.int32]]]
    labels: NDArray[np.int32]  # (E,)
    n_truncated: int


def encode(
    examples: Sequence[tuple[Input, int]], task: Task, tokenizer: Tokenizer, ids: SpecialIds, n_ctx: int
) -> Encoded:
    """Each example in its task's form, in at most `n_ctx` tokens a sequence."""
    forms = [form(task, item, tokenizer.encode, ids, n_ctx) for item, _ in examples]
    sequences = [[np.array(s, np.int32) for s in f.sequences] for f in forms]
    labels = np.array([label for _, label in examples], np.int32)
    return Encoded(sequences, labels, sum(f.truncated for f in forms))


class Batch(NamedTuple):
    """Examples side by side, padded on the right: attention is causal, so what stands after the end changes nothing."""

    ids: NDArray[np.int32]  # (B, T)
    targets: NDArray[np.int32]  # (B, T): the token after each, -1 at and after the end
    extract: NDArray[np.int64]  # (B,): rows n = b T + t of the extract tokens
    example: NDArray[np.int64]  # (B,): which example of the batch, from 0 to E - 1, a sequence belongs to
    labels: NDArray[np.int32]  # (E,)


def batch(encoded: Encoded, chosen: Sequence[int]) -> Batch:
    """The examples of these numbers as one batch."""
    sequences = [s for i in chosen for s in encoded.examples[i]]
    n_token = max(map(len, sequences))
    ids = np.zeros((len(sequences), n_token), np.int32)  # padding is any token
    targets = np.full_like(ids, -1)
    for row, s in enumerate(sequences):
        ids[row, : len(s)] = s
        targets[row, : len(s) - 1] = s[1:]
    extract = np.array([row * n_token + len(s) - 1 for row, s in enumerate(sequences)], np.int64)
    counts = [len(encoded.examples[i]) for i in chosen]
    return Batch(ids, targets, extract, np.repeat(np.arange(len(chosen)), counts), encoded.labels[np.asarray(chosen)])


def micro_batches(encoded: Encoded, chosen: Sequence[int], n_tokens: int) -> list[tuple[list[int], Batch]]:
    """The same examples in batches of similar lengths, with their numbers: at most `n_tokens` ids each, padding
    included, or one example."""
    order = sorted(chosen, key=lambda i: max(map(len, encoded.examples[i])))  # stable: no chance in it
    groups: list[list[int]] = []
    n_rows = 0
    for i in order:
        longest, rows = max(map(len, encoded.examples[i])), len(encoded.examples[i])
        if not groups or (n_rows + rows) * longest > n_tokens:
            groups.append([])
            n_rows = 0
        groups[-1].append(i)
        n_rows += rows
    return [(group, batch(encoded, group)) for group in groups]


def drawn(n_examples: int, n_batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """The examples of one step, from 1: each epoch goes through all of them once, in an order that is a function of
    (seed, epoch) alone. The last batch of an epoch may be smaller."""
    per_epoch = steps_per_epoch(n_examples, n_batch)
    epoch, at = divmod(step - 1, per_epoch)
    return _shuffled(n_examples, seed, epoch)[at * n_batch : (at + 1) * n_batch]


def steps_per_epoch(n_examples: int, n_batch: int) -> int:
    """Optimiser steps that go through all examples once."""
    return -(-n_examples // n_batch)


def _shuffled(n: int, *key: int) -> NDArray[np.int64]:
    """The numbers below n in an order that follows from the key. (The raw numbers of Philox are the same in all
    versions of NumPy; `Generator.permutation` need not be.)"""
    return np.argsort(np.random.Philox(np.random.SeedSequence(key)).random_raw(n), kind="stable")
