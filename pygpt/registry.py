"""Models on this machine and models by name: fetch, list, remove."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pygpt.checkpoint import hub, names, wheel
from pygpt.checkpoint.hub import Progress, Reference
from pygpt.checkpoint.locate import BUILT_IN, locate, referred, resolved
from pygpt.errors import CheckpointError

TABLE = names.TABLE
"""The short names."""


class OnDisk(NamedTuple):
    """A model that loads without a network."""

    name: str  # as `Model.load` takes it
    n_bytes: int
    path: Path


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model by its short name or its name on the Hugging Face hub, or what is newer of it there; its file or
    folder. `progress` is called with (bytes so far, bytes in all). Raises what `pygpt.checkpoint.locate` does."""
    _check_name(name)
    if name in BUILT_IN or not name or Path(name).exists():
        return locate(name)
    return resolved(name, progress, update=True)


def on_disk() -> list[OnDisk]:
    """What is in pygpt's cache and, of what pygpt could read, in that of the Hugging Face hub; by name."""
    return sorted([*_built_in(), *_packaged(), *_of_the_hub()])


def remove(name: str) -> int:
    """Delete a model from the caches; the bytes that became free. A name of a repository stands for all revisions and
    files of it. The hub's cache is shared with other programs. Raises CheckpointError where there is nothing."""
    _check_name(name)
    if name in BUILT_IN:
        raise CheckpointError(f"{name} is part of pygpt and cannot be removed")
    if Path(name).exists():
        raise CheckpointError(f"{name}: a file or folder, and no name: pygpt removes what it has fetched")
    ref = referred(name)
    if isinstance(ref, Reference) and ref.revision != hub.MAIN and not (ref.file or ref.quant):
        raise CheckpointError(f"{name}: to remove all revisions of it, name {ref.repository}")
    try:
        if isinstance(ref, Reference):
            n_bytes = _remove_files(ref) if ref.file or ref.quant else _remove_folder(hub.folder_of(ref.repository))
        else:
            n_bytes = _remove_folder(ref.path.parent)
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be removed: {error.strerror or error}") from error
    if n_bytes is None:
        here = ", ".join(model.name for model in on_disk() if model.name not in BUILT_IN) or "none"
        raise CheckpointError(f"{name}: not on this machine; models that can be removed: {here}")
    return n_bytes


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, not {type(name).__name__}")


def _built_in() -> Iterator[OnDisk]:
    for name in BUILT_IN:
        folder = locate(name)
        yield OnDisk(name, _size(folder.iterdir()), folder)


def _packaged() -> Iterator[OnDisk]:
    for entry in TABLE:
        if isinstance(entry.source, names.Package):
            path = wheel.Packaged(entry.name, entry.source).path
            if path.is_file():
                yield OnDisk(entry.name, _size([path]), path)


def _of_the_hub() -> Iterator[OnDisk]:
    """Each GGUF model by its file's name, and the other weights of a repository by the repository's."""
    for folder in hub.cache_folder().glob("models--*"):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        ref = hub.reference(repository)
        if ref is None:
            continue
        for found in hub.models_in(ref):
            entry = names.of_repository(repository) if found.path.is_dir() else None
            name = found.name if entry is None else entry.name
            yield OnDisk(name, _size(found.files), found.path)


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove_folder(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    n_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    shutil.rmtree(folder)
    return n_bytes


def _remove_files(ref: Reference) -> int | None:
    """Delete the links to some files of a snapshot, and what they point to unless another snapshot does as well. Where
    the client could make no links, the files are the model's own."""
    found = hub.cached(ref)
    if found.path is None:
        return None
    snapshot = hub.snapshot(ref)
    assert snapshot is not None
    n_bytes = 0
    blobs = hub.folder_of(ref.repository).resolve() / "blobs"
    for link in (snapshot / name for name in hub.weights_among(hub.files_of(snapshot), ref)):
        blob = link.resolve()
        n_bytes += 0 if link.is_symlink() else link.stat().st_size
        link.unlink()
        others = (f.resolve() for f in snapshot.parent.rglob("*") if f.is_symlink())
        if blob.parent == blobs and blob not in others:
            n_bytes += blob.stat().st_size
            blob.unlink()
    return n_bytes
