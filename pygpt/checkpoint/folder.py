"""Folders and files that appear on the disk as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import CheckpointError, TokenizerError
from pygpt.tokenizer import Tokenizer

WEIGHTS, CONFIG, CLASSIFIER = "model.safetensors", "config.json", "classifier.json"
INDEX = f"{WEIGHTS}.index.json"  # instead of WEIGHTS, where they are several files
PICKLED = "pytorch_model.bin"  # the same before safetensors
PICKLED_INDEX = f"{PICKLED}.index.json"
CLASSIFIER_TENSORS = ("classifier.weight", "classifier.bias")  # stand among the model's where there is a CLASSIFIER

T = TypeVar("T")


class Extra(NamedTuple):
    """A classifier as it stands beside a model. Its tensors are in the model's own file because then one rename
    replaces both."""

    text: str  # of classifier.json
    tensors: Mapping[str, NDArray[np.float32]]

    def stored(self) -> dict[str, tuple[str, NDArray[np.float32]]]:
        """(dtype, array) by name, as `write_file` takes them."""
        return {name: ("float32", array) for name, array in self.tensors.items()}


def models_own(folder: Path, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of a file without those of a classifier beside it."""
    extra = CLASSIFIER_TENSORS if (folder / CLASSIFIER).is_file() else ()
    return {name: tensor for name, tensor in tensors.items() if name not in extra}


def check_free(folder: Path) -> None:
    """Raises CheckpointError unless a checkpoint can be saved there: nothing yet, or an empty folder."""
    try:
        if folder.is_dir():
            if any(folder.iterdir()):
                raise CheckpointError(f"{folder}: not empty; a checkpoint is saved to a new or empty folder only")
        elif os.path.lexists(folder):
            raise CheckpointError(f"{folder}: is there already, and no folder")
        elif not folder.absolute().parent.is_dir():
            raise CheckpointError(f"{folder}: the folder {folder.absolute().parent} does not exist")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: cannot be looked up: {error}") from error


@contextlib.contextmanager
def partial_folder(folder: Path, label: str = "") -> Iterator[Path]:
    """A new, hidden folder beside `folder`, to be filled and renamed; it is gone at the end, whatever happened.

    An OSError meanwhile becomes a CheckpointError.
    """
    import shutil  # here, because loading a model need not wait for it

    partial = folder.parent / f".{folder.name}{label}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        yield partial
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be saved: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_settings(
    folder: Path, values: Mapping[str, object], tokenizer: Tokenizer | None, extra: Extra | None
) -> None:
    """config.json, the tokenizer's files and classifier.json; a tokenizer that pygpt cannot read is left out."""
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        with contextlib.suppress(TokenizerError):
            tokenizer.save(folder)
    if extra is not None:
        (folder / CLASSIFIER).write_text(extra.text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, hidden file beside `path`, to be written; when that is done and on the disk, it takes the place of what is
    there. It is gone at the end, whatever happened. An OSError names `path`."""
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.absolute().parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, os.fspath(partial)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def sync_all(folder: Path) -> None:
    """Wait until a folder and its files are on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file's or a folder's contents are on the disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
