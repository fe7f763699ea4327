"""A classifier beside a checkpoint: classifier.json, and two tensors among the model's.

The tensors are in the model's own file because then one rename replaces both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.folder import CLASSIFIER, WEIGHTS
from pygpt.checkpoint.safetensors import Opened, open_file
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError

T = TypeVar("T")
Task = Literal["classification", "entailment", "similarity", "choice"]
TASKS: tuple[Task, ...] = get_args(Task)
WEIGHT, BIAS = "classifier.weight", "classifier.bias"


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

    def tensors(self) -> dict[str, tuple[str, NDArray[np.generic]]]:
        """(dtype, array) by name, as `write_file` takes them."""
        return {WEIGHT: ("float32", self.weight), BIAS: ("float32", self.bias)}

    def table(self) -> str:
        """The text of classifier.json."""
        values = {"task": self.task, "labels": self.labels, **self.ids._asdict()}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read_classifier(path: Path, config: ModelConfig) -> Classifier | None:
    """The classifier of a checkpoint, a folder or its file of weights; None where there is none.

    CheckpointError for one that is damaged or does not fit the model.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    path = weights.with_name(CLASSIFIER)
    if weights.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(table, dict) or table.keys() != {"task", "labels", *SpecialIds._fields}:
        raise CheckpointError(f"{path}: must be a table of task, labels, {', '.join(SpecialIds._fields)}")
    task, labels, ids = table["task"], table["labels"], [table[name] for name in SpecialIds._fields]
    if task not in TASKS:
        raise CheckpointError(f"{path}: task is {task!r}, but must be one of {', '.join(TASKS)}")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: labels must be a list of texts")
    if len(set(labels)) != len(labels) or (labels if task == "choice" else len(labels) < 2):
        raise CheckpointError(f"{path}: labels must be at least 2 different texts, or none for a choice")
    if any(type(i) is not int or not 0 <= i < config.n_vocab for i in ids) or len(set(ids)) != len(ids):
        raise CheckpointError(f"{path}: the special tokens {ids} must be 3 different ids below {config.n_vocab}")
    n_rows = len(labels) or 1
    arrays = _arrays(open_file(weights), {WEIGHT: (n_rows, config.n_embd), BIAS: (n_rows,)})
    return Classifier(task=task, labels=tuple(labels), ids=SpecialIds(*ids), weight=arrays[WEIGHT], bias=arrays[BIAS])


def without_classifier(folder: Path, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of a file that are the model's own."""
    extra = (WEIGHT, BIAS) if (folder / CLASSIFIER).is_file() else ()
    return {name: tensor for name, tensor in tensors.items() if name not in extra}


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
