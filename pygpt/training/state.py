"""What a run needs to go on bit for bit: one safetensors file, replaced as a whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt._json import parse_table
from pygpt.checkpoint.folder import sync
from pygpt.checkpoint.safetensors import PACKED, open_file, write_file
from pygpt.errors import CheckpointError, TrainingError
from pygpt.training.bfloat16 import rounded

ARRAYS = ("params", "m", "v")
_TYPES = dict((PACKED["float32"], PACKED["bfloat16"]))  # that the file may hold, and NumPy's for them
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    step: int = 0
    best_loss: float | None = None  # of the validation text; None before the first evaluation
    best_step: int = 0
    since_best: int = 0  # evaluations without a better one
    tokens: int = 0  # seen in training
    seconds: float = 0.0  # of work, over all processes of the run
    finished: bool = False
    n_steps: int = 0  # of the recipe, when it was `finished`: a run can be extended
    pending: dict[str, Any] | None = None
    """The figures of `step`, if what follows its update, evaluation and the line of metrics, is still to be done."""


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, and put it in its place once it is on the disk.

    Whoever is killed meanwhile leaves the old file or the new one. TrainingError where it cannot be written; then the
    old one stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_state(path: Path, fingerprint: str, progress: Progress, arrays: Mapping[str, NDArray[Any]]) -> None:
    """`ARRAYS` by name, all (n,), float32 or the bits of bfloat16; `fingerprint` says which run they belong to. Errors
    are `replace_file`'s."""
    text = json.dumps(asdict(progress))
    metadata = {
        "version": _VERSION,
        "run": fingerprint,
        "progress": text,
        "crc32": str(_checksum(text, arrays)),
    }
    tensors = {name: (_kind(arrays[name]), arrays[name]) for name in ARRAYS}
    replace_file(path, lambda partial: write_file(partial, tensors, metadata))


def peek(path: Path) -> Progress:
    """How far a run is, for messages: nothing is checked, and where there is no state it is at its beginning."""
    try:
        return _progress(open_file(path).metadata["progress"], path)
    except (CheckpointError, TrainingError, KeyError):
        return Progress()


def read_state(path: Path, fingerprint: str, arrays: Mapping[str, NDArray[Any]]) -> Progress:
    """Fill `arrays` from the file; where a version of pygpt wrote float32 that had no bfloat16 there, they are rounded.
    TrainingError for one that is damaged or belongs to another run, and then the arrays are as they were."""
    try:
        file = open_file(path)
    except CheckpointError as error:
        raise TrainingError(f"{error}: the run cannot go on from it") from error
    metadata = file.metadata
    if metadata.get("version") != _VERSION:
        raise TrainingError(
            f"{path}: has version {metadata.get('version')!r}, and this version of pygpt goes on from {_VERSION!r}"
        )
    if metadata.get("run") != fingerprint:
        raise TrainingError(
            f"{path}: belongs to another run, or to other settings than those that are in run.json now: a run goes on "
            "only as it began"
        )
    shapes = {name: list(entry.shape) for name, entry in file.entries.items()}
    wanted = {name: list(array.shape) for name, array in arrays.items()}
    if shapes != wanted:
        raise TrainingError(f"{path}: holds arrays of shapes {shapes}, but the run has {wanted}")
    types = {name: entry.dtype for name, entry in file.entries.items()}
    for name, array in arrays.items():
        if types[name] not in ("F32", PACKED[_kind(array)][0]):
            raise TrainingError(f"{path}: holds {name} as {types[name]}, but the run has it in {_kind(array)}")
    stored = file.arrays({name: _TYPES[found] for name, found in types.items()})
    text = metadata.get("progress", "")
    if str(_checksum(text, stored)) != metadata.get("crc32"):
        raise TrainingError(f"{path}: is damaged: its values do not fit their checksum")
    progress = _progress(text, path)
    for name, array in arrays.items():
        array[...] = stored[name] if stored[name].dtype == array.dtype else rounded(stored[name])
    return progress


def _progress(text: str, path: Path) -> Progress:
    values: dict[str, Any] = parse_table(text, str(path), TrainingError)
    try:
        return Progress(**values)
    except TypeError as error:
        raise TrainingError(f"{path}: does not say how far the run is: {error}") from error


def _kind(array: NDArray[Any]) -> str:
    """What its values are."""
    return "bfloat16" if array.dtype == np.uint16 else "float32"


def _checksum(text: str, arrays: Mapping[str, NDArray[np.generic]]) -> int:
    checksum = zlib.crc32(text.encode())
    for name in ARRAYS:
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).data.cast("B"), checksum)
    return checksum
