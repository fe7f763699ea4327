"""Low-rank adaptation: training a small change of some matrices instead of the whole model.

Hu et al. 2021, arXiv:2106.09685, section 4.1: W_adapted = W + (alpha / rank) B A, with W (O, I) frozen, A (rank, I)
drawn from a normal distribution and B (O, rank) zero at first, so that training begins with the model as it was.

Before each step the adapted matrices are written into the network's parameters, so that its forward pass is that of any
model. Its backward pass finds no gradients but those of A and B to add to, and computes no others: see
`pygpt.training.modules`. The optimiser's moments are those of the adapters alone.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt._json import read_table
from pygpt.checkpoint.folder import CLASSIFIER
from pygpt.checkpoint.safetensors import open_file, write_file
from pygpt.classification import Classifier, read_classifier
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError, TrainingError
from pygpt.training.loop import Objective
from pygpt.training.parameters import ROWS, Adapter, FlatTensors, Parameters
from pygpt.training.primitives import Array
from pygpt.training.state import replace_file

TABLE, WEIGHTS = "adapters.json", "adapters.safetensors"
OF_TOKENS = ("embed.weight", "head.weight", "head.bias")  # a row a token
DEFAULT_TARGETS = ("q", "v")  # as in the paper's section 4.2
_A, _B = ".lora_a", ".lora_b"


def adapted_names(config: ModelConfig, targets: Sequence[str]) -> list[str]:
    """The matrices to adapt: those of each block whose last name is in `targets` ("q", "k", "v", "out", "gate", "up",
    "down"). ValueError for a name that the model does not have."""
    names = [name for name in config.tensor_shapes() if name.startswith("blocks.") and name.endswith(".weight")]
    by_target: dict[str, list[str]] = {}
    for name in names:
        if "norm" not in name:
            by_target.setdefault(name.split(".")[-2], []).append(name)
    if not targets or len(set(targets)) != len(targets) or not set(targets) <= by_target.keys():
        raise ValueError(f"lora targets must be some of {', '.join(by_target)}, each once, not {', '.join(targets)!r}")
    return [name for target in targets for name in by_target[target]]


def check_rank(config: ModelConfig, names: Sequence[str], rank: int, alpha: float) -> None:
    """ValueError unless the rank suits every matrix and alpha is a positive number."""
    shapes = config.tensor_shapes()
    most = min(min(shapes[name]) for name in names)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= most:
        raise ValueError(f"lora rank must be an integer from 1 to {most}, the least size of the matrices, not {rank!r}")
    if not math.isfinite(alpha) or alpha <= 0:
        raise ValueError(f"lora alpha must be a number above 0, not {alpha!r}")


class Lora:
    """Adapters of some matrices of `params`, and what is trained beside them.

    `trained` is what the optimiser changes: A and B of each adapted matrix, the tensors of `params` that are no part of
    the model (a classifier's), and the embedding's rows from `first_row` on, which are new as well.
    """

    def __init__(
        self,
        params: Parameters,
        names: Sequence[str],
        rank: int,
        alpha: float,
        *,
        first_row: int | None = None,
        seed: int = 0,
    ) -> None:
        """Takes `params` as the frozen model. A's values have the variance 1 / inputs, so that A x is about as large as
        x. ValueError: see `check_rank`."""
        config = params.config
        check_rank(config, names, rank, alpha)
        self.params, self.names, self.rank, self.alpha = params, tuple(names), rank, alpha
        self._frozen = {name: params.tensors[name].copy() for name in names}
        model = config.tensor_shapes()
        self._whole = [name for name in params.tensors if name not in model]
        self._first_row = config.n_vocab if first_row is None else first_row
        self._rows = [name for name in OF_TOKENS if name in model] if self._first_row < config.n_vocab else []
        shapes: dict[str, tuple[int, ...]] = {}
        for name in names:
            n_out, n_in = model[name]
            shapes |= {name + _A: (rank, n_in), name + _B: (n_out, rank)}
        shapes |= {name: params.tensors[name].shape for name in self._whole}
        shapes |= {name + ROWS: (config.n_vocab - self._first_row, *model[name][1:]) for name in self._rows}
        dtype: type[np.floating[Any]] = params.flat.dtype.type
        self.trained = FlatTensors(shapes, dtype)
        generator = np.random.Generator(np.random.Philox(seed))
        for name in names:
            a = self.trained.tensors[name + _A]
            a[...] = generator.standard_normal(a.shape, np.float32) / math.sqrt(a.shape[1])
        for name in self._whole:
            self.trained.tensors[name][...] = params.tensors[name]
        for name in self._rows:
            self.trained.tensors[name + ROWS][...] = params.tensors[name][self._first_row :]

    @property
    def size(self) -> int:
        """How many values are trained."""
        return self.trained.flat.size

    def gradients(self) -> FlatTensors:
        """Zeros in the form of `trained`, for a network to add to."""
        values = self.trained.tensors
        grads = FlatTensors({n: t.shape for n, t in values.items()}, self.trained.flat.dtype.type)
        for name in self.names:
            a, b = name + _A, name + _B
            scale = self.alpha / self.rank
            grads.adapters[name] = Adapter(values[a], values[b], grads.tensors[a], grads.tensors[b], scale)
        return grads

    def materialise(self) -> None:
        """Write the adapted matrices and the other trained values into `params`."""
        tensors = self.trained.tensors
        for name in self.names:
            self.params.tensors[name][...] = merged(
                self._frozen[name], tensors[name + _A], tensors[name + _B], self.alpha
            )
        for name in self._whole:
            self.params.tensors[name][...] = tensors[name]
        for name in self._rows:
            self.params.tensors[name][self._first_row :] = tensors[name + ROWS]

    def write(self, folder: Path, classifier: str | None) -> None:
        """adapters.json, adapters.safetensors with all trained values, and the text of classifier.json if there is a
        classifier. Each file is replaced as a whole. TrainingError where it cannot be written."""
        table = {
            "rank": self.rank,
            "alpha": self.alpha,
            "matrices": self.names,
            "first_row": self._first_row,
            "base": fingerprint(self._frozen),
        }
        texts = {TABLE: json.dumps(table, indent=2) + "\n", CLASSIFIER: classifier}
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: cannot be made: {error.strerror or error}") from error
        for name, text in texts.items():
            if text is not None:
                replace_file(folder / name, functools.partial(_write_text, text))
        tensors = {name: ("float32", tensor) for name, tensor in self.trained.tensors.items()}
        replace_file(folder / WEIGHTS, lambda partial: write_file(partial, tensors))


class Adapted:
    """An objective whose parameters change by adapters alone; see `pygpt.training.loop.Objective`."""

    def __init__(self, inner: Objective, lora: Lora, classifier: str | None = None) -> None:
        """`inner` computes `lora.gradients()`. `classifier`: the text of its classifier.json."""
        self._inner, self._lora, self._classifier = inner, lora, classifier
        self.values, self.grads, self.n_decayed = lora.trained.flat, inner.grads, lora.trained.n_decayed

    def gradients(self, step: int) -> tuple[float, int]:
        """As `inner` does."""
        self._lora.materialise()
        return self._inner.gradients(step)

    def evaluate(self) -> dict[str, Any]:
        """As `inner` does."""
        self._lora.materialise()
        return self._inner.evaluate()

    def sample(self) -> str | None:
        """As `inner` does."""
        self._lora.materialise()
        return self._inner.sample()

    def write(self, folder: Path) -> None:
        """The merged model, and beside it the adapters, in a folder whose name ends in -adapters."""
        self._lora.materialise()
        self._inner.write(folder)
        self._lora.write(folder.with_name(f"{folder.name}-adapters"), self._classifier)


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def merged(weight: Array, a: Array, b: Array, alpha: float) -> Array:
    """W + (alpha / rank) B A: weight (O, I), a (rank, I), b (O, rank)."""
    change: Array = b @ a
    change *= weight.dtype.type(alpha / len(a))
    change += weight
    return change


def fingerprint(matrices: Mapping[str, ArrayLike]) -> str:
    """A hash of the frozen matrices in float32, by which adapters know the model they were trained for."""
    digest = hashlib.sha256()
    for name in sorted(matrices):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(matrices[name], "<f4").data)
    return digest.hexdigest()


class Merged(NamedTuple):
    """A model with its adapters added."""

    config: ModelConfig
    tensors: dict[str, NDArray[np.float32]]
    classifier: Classifier | None


def merge(config: ModelConfig, tensors: Mapping[str, ArrayLike], folder: Path) -> Merged:
    """A model's tensors with the adapters of a folder added, and the classifier that was trained with them.

    CheckpointError: files that are damaged, or were made for another model.
    """
    table, adapters = _read(folder)
    names, first_row, rank = table["matrices"], table["first_row"], table["rank"]
    out = {name: np.array(tensor, np.float32) for name, tensor in tensors.items()}
    shapes = config.tensor_shapes()
    where = f"{folder}: these adapters are for another model"
    if unknown := [name for name in names if len(shapes.get(name, ())) != 2]:
        raise CheckpointError(f"{where}: this one has no matrix {unknown[0]}")
    if fingerprint({name: out[name] for name in names}) != table["base"]:
        raise CheckpointError(f"{where}: its matrices differ from those they were trained for")
    for name in names:
        a, b = adapters.pop(name + _A, None), adapters.pop(name + _B, None)
        n_out, n_in = shapes[name]
        if a is None or b is None or a.shape != (rank, n_in) or b.shape != (n_out, rank):
            raise CheckpointError(f"{folder / WEIGHTS}: {name} needs {_A} and {_B} of rank {rank}")
        out[name] = merged(out[name], a, b, table["alpha"])
    rows = {name: adapters.pop(name + ROWS) for name in OF_TOKENS if name + ROWS in adapters}
    if rows and not (rows.keys() == out.keys() & set(OF_TOKENS) and first_row <= config.n_vocab):
        raise CheckpointError(f"{where}: its embedding or head is another")
    for name, new in rows.items():
        if new.shape[1:] != shapes[name][1:] or len(new) != len(rows["embed.weight"]):
            raise CheckpointError(f"{where}: {name} has the shape {shapes[name]}, but its new rows {new.shape}")
        out[name] = np.concatenate((out[name][:first_row], new))
    config = dataclasses.replace(config, n_vocab=len(out["embed.weight"]))
    classifier = read_classifier(folder / WEIGHTS, config)
    if odd := sorted(adapters.keys() - (set() if classifier is None else classifier.extra().tensors.keys())):
        raise CheckpointError(f"{folder / WEIGHTS}: holds the tensor {odd[0]!r}, which is no adapter's")
    return Merged(config, out, classifier)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    path = folder / TABLE
    table: dict[str, Any] = read_table(path, CheckpointError)
    kinds = {"rank": int, "alpha": (int, float), "matrices": list, "first_row": int, "base": str}
    if table.keys() != kinds.keys():
        raise CheckpointError(f"{path}: must be a table of {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(table[key], kind) or isinstance(table[key], bool):  # type: ignore[arg-type]
            raise CheckpointError(f"{path}: {key} is {table[key]!r:.80}")
    names = table["matrices"]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise CheckpointError(f"{path}: matrices must be different names")
    if table["rank"] < 1 or table["first_row"] < 1 or not 0 < table["alpha"] < math.inf:
        raise CheckpointError(f"{path}: rank, alpha and first_row must be above 0")
    file = open_file(folder / WEIGHTS)
    for name, entry in file.entries.items():
        if entry.dtype != "F32":
            raise CheckpointError(f"{folder / WEIGHTS}: tensor {name!r} is {entry.dtype}, but must be F32")
    return table, {n: np.array(t) for n, t in file.arrays(dict.fromkeys(file.entries, np.dtype("<f4"))).items()}
