"""Classifying text with a language model: the forms of the inputs, the linear layer that gives the answer, its file
beside a checkpoint, and how good its answers are.

A fine-tuned model reads each example as one or more sequences that begin with a start token and end with an extract
token; a linear layer on the hidden state of the extract token gives the answer (Radford et al. 2018, "Improving
Language Understanding by Generative Pre-Training", sections 3.2 and 3.3).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt import _core
from pygpt._json import read_table, shown
from pygpt.checkpoint.folder import CLASSIFIER, CLASSIFIER_TENSORS, WEIGHTS, Extra
from pygpt.checkpoint.safetensors import Opened, open_file
from pygpt.config import ModelConfig
from pygpt.embedding import hidden_states
from pygpt.errors import CheckpointError
from pygpt.fields import doc, documented
from pygpt.tokenizer import Tokenizer

Task = Literal["classification", "entailment", "similarity", "choice"]
TASKS: tuple[Task, ...] = get_args(Task)
WEIGHT, BIAS = CLASSIFIER_TENSORS

Input: TypeAlias = str | tuple[str, str] | tuple[str, Sequence[str]]
"""One example: a text; (premise, hypothesis) or two texts to compare; (prompt, answers to choose from)."""

SPECIAL_TOKENS = ("_start_", "_delimiter_", "_classify_")  # in the order of `SpecialIds`, named as GPT-1's code does
_GROUP_TOKENS = 4096  # that are computed together
_MIN_CTX = 5  # start, a token, delimiter, a token, extract


class SpecialIds(NamedTuple):
    """The ids of the tokens that give an example its form."""

    start: int
    delimiter: int
    extract: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A linear layer on the hidden state of the extract token, and what it needs to be used."""

    task: Task
    labels: tuple[str, ...]  # of the rows of `weight`; none for a choice, whose one row scores each answer
    ids: SpecialIds
    weight: NDArray[np.float32]  # (n_labels or 1, C)
    bias: NDArray[np.float32]  # (n_labels or 1,)

    def extra(self) -> Extra:
        """What a checkpoint keeps of it."""
        table = {"task": self.task, "labels": self.labels, **self.ids._asdict()}
        text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
        return Extra(text, {WEIGHT: self.weight, BIAS: self.bias})


@documented
@dataclass(frozen=True, slots=True)
class Classification:
    """What a classifier makes of one example."""

    label: str = field(metadata=doc("The likeliest label; of a choice, the likeliest answer."))
    probabilities: Mapping[str, float] = field(
        metadata=doc("By label, or by answer, in the classifier's order; they sum to 1.")
    )


class Form(NamedTuple):
    """One example as a model reads it."""

    sequences: list[list[int]]
    """One, two for similarity (both orders), or one for each answer of a choice; each ends with the extract token."""
    truncated: bool
    """Whether a text lost its end to fit the context."""


def check_input(task: Task, item: object) -> Input:
    """The same item, if it has the shape that the task wants, with texts that are not empty. TypeError, ValueError."""
    if task == "classification":
        if not isinstance(item, str):
            raise TypeError(f"{task} takes a text, not {type(item).__name__}")
        texts: tuple[object, ...] = (item,)
    else:
        second = "answers" if task == "choice" else "a second text"
        if not isinstance(item, tuple) or len(item) != 2:
            raise TypeError(f"{task} takes a tuple of a text and {second}, not {item!r:.80}")
        texts = item
        if task == "choice":
            if isinstance(item[1], str) or not isinstance(item[1], Sequence):
                raise TypeError(f"the answers of a choice must be a list or tuple of texts, not {item[1]!r:.80}")
            texts = (item[0], *item[1])
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text of {task} must be a str, not {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"a text of {task} must not be empty")
    if task == "choice" and len(set(texts[1:])) != max(2, len(texts) - 1):
        raise ValueError("a choice needs at least 2 answers, all different")
    return item


def form(task: Task, item: Input, encode: Callable[[str], list[int]], ids: SpecialIds, n_ctx: int) -> Form:
    """The token sequences of an example that `check_input` took, none longer than `n_ctx` tokens.

    classification  start text extract
    entailment      start premise delimiter hypothesis extract
    similarity      start a delimiter b extract, start b delimiter a extract
    choice          start prompt delimiter answer extract, for each answer

    Where texts are too long they lose their ends, never the tokens between them: of two texts the longer one, and if
    both are longer than half of the room, each keeps half. ValueError for a context of fewer than 5 tokens.
    """
    if n_ctx < _MIN_CTX:
        raise ValueError(f"a context of {n_ctx} tokens is too short to classify in: at least {_MIN_CTX}")
    if isinstance(item, str):
        text = encode(item)
        return Form([[ids.start, *text[: n_ctx - 2], ids.extract]], len(text) > n_ctx - 2)
    first, second = item
    prompt = encode(first)
    others = [encode(second)] if isinstance(second, str) else [encode(answer) for answer in second]
    pairs = [(prompt, other) for other in others]
    if task == "similarity":
        pairs.append((others[0], prompt))
    room = n_ctx - 3
    sequences = []
    for a, b in pairs:
        keep_a = max(room - len(b), room // 2)
        a_kept = a[:keep_a]
        sequences.append([ids.start, *a_kept, ids.delimiter, *b[: room - len(a_kept)], ids.extract])
    return Form(sequences, any(len(a) + len(b) > room for a, b in pairs))


def classify(
    engine: _core.Engine, n_ctx: int, tokenizer: Tokenizer, classifier: Classifier, items: Sequence[object]
) -> list[Classification]:
    """What a classifier makes of each item, some at a time. TypeError, ValueError: see `check_input`."""
    task = classifier.task
    inputs = [check_input(task, item) for item in items]
    part = functools.partial(tokenizer.encode, add_special=False)
    forms = [form(task, item, part, classifier.ids, n_ctx).sequences for item in inputs]
    sequences = (np.array(sequence, np.int32) for sequences in forms for sequence in sequences)
    states = hidden_states(engine, sequences, _GROUP_TOKENS)
    results = []
    for item, own in zip(inputs, forms, strict=True):
        scores = _scores(classifier, [next(states)[-1] for _ in own])
        names = tuple(item[1]) if task == "choice" else classifier.labels
        chances = map(math.exp, engine.log_softmax(scores).tolist())
        results.append(Classification(names[int(scores.argmax())], dict(zip(names, chances, strict=True))))
    return results


def _scores(classifier: Classifier, states: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The score of each label, or of each answer of a choice, from the states (C,) of one example's extract tokens.

    Products are exact in float64 and sums are rounded once (fsum): the same bits on every machine.
    """
    if classifier.task == "choice":
        products = np.stack(states).astype(np.float64) * classifier.weight[0]
    else:  # similarity adds the states of both orders
        products = classifier.weight * np.sum(states, axis=0, dtype=np.float64)
    sums = np.array([math.fsum(row) for row in products.tolist()])
    return (sums + classifier.bias).astype(np.float32)


def read_classifier(path: Path, config: ModelConfig) -> Classifier | None:
    """The classifier of a checkpoint, a folder or its file of weights; None where there is none.

    CheckpointError for one that is damaged or does not fit the model.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    path = weights.with_name(CLASSIFIER)
    if weights.suffix != ".safetensors" or not path.is_file():
        return None
    table: dict[str, Any] = read_table(path, CheckpointError)
    if table.keys() != {"task", "labels", *SpecialIds._fields}:
        raise CheckpointError(f"{path}: must be a table of task, labels, {', '.join(SpecialIds._fields)}")
    task, labels, ids = table["task"], table["labels"], [table[name] for name in SpecialIds._fields]
    if task not in TASKS:
        raise CheckpointError(f"{path}: task is {shown(task)}, but must be one of {', '.join(TASKS)}")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: labels must be a list of texts")
    if len(set(labels)) != len(labels) or (labels if task == "choice" else len(labels) < 2):
        raise CheckpointError(f"{path}: labels must be at least 2 different texts, or none for a choice")
    if any(type(i) is not int or not 0 <= i < config.n_vocab for i in ids) or len(set(ids)) != len(ids):
        raise CheckpointError(f"{path}: the special tokens {shown(ids)} must be 3 different ids below {config.n_vocab}")
    n_rows = len(labels) or 1
    arrays = _arrays(open_file(weights), {WEIGHT: (n_rows, config.n_embd), BIAS: (n_rows,)})
    return Classifier(task=task, labels=tuple(labels), ids=SpecialIds(*ids), weight=arrays[WEIGHT], bias=arrays[BIAS])


def _arrays(file: Opened, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Copies, since they are small and the file is not."""
    where = file.file.path
    for name, shape in shapes.items():
        entry = file.entries.get(name)
        found = None if entry is None else (entry.dtype, entry.shape)
        if found != ("F32", shape):
            raise CheckpointError(f"{where}: {CLASSIFIER} asks for the tensor {name!r} as F32 of {shape}, not {found}")
    views = file.arrays(dict.fromkeys(shapes, np.dtype("<f4")))
    arrays = {name: np.array(view, np.float32) for name, view in views.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{where}: tensor {name!r} holds values that are not finite")
    return arrays


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
