"""Files of what a model has read: tokens, and the pages of its cache of them, of one session or of several.

A safetensors file: "tokens.I" (int32) of each sequence, "pages.I.C" (int32), which are its pages of each class of
layers by number, -1 where no later token sees them, and "page.N" (bytes), which is written once however many share it.
Pages are the same bytes on every instruction set. The metadata says of what model and version of pygpt they are, since
another's would give other bits, and has a checksum of all tensors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt._json import shown
from pygpt.checkpoint.folder import replacing
from pygpt.checkpoint.safetensors import Opened, open_file, write_file
from pygpt.errors import CheckpointError
from pygpt.generation.prompt import as_ids

if TYPE_CHECKING:
    from pygpt.config import ModelConfig

Ids = NDArray[np.int32]

_FORMAT, _VERSION, _CHECKSUM = "pygpt-cache", "3", "checksum"
_KINDS = {
    "tokens": ("I32", 1),
    "pages": ("I32", 1),
    "page": ("U8", 1),
}  # type and dimensions, by a name's beginning
_NO_PAGE = -1
_ADVICE = "delete it to begin anew"
_DIFFERENCES = {
    "version": "of version {} of this kind of file, and this pygpt reads {}",
    "pygpt": "written by pygpt {}, whose results may differ from those of {} in their last bits",
    "kv": "its keys and values are in the format {}, and the model's in {}",
    "config": "of a model of another configuration, or another context",
    "weights": "of a model with other weights",
}


def write(
    path: Path, engine: _core.Engine, config: ModelConfig, sequences: Sequence[tuple[Ids, _core.Session]]
) -> None:
    """Write sessions with the (T,) tokens that each holds, as a whole or not at all. OSError where it cannot be."""
    tensors: dict[str, tuple[str, NDArray[np.generic]]] = {}
    numbers: dict[int, int] = {}  # of pages, by address
    kept: list[_core.Page] = []  # so that no address is used again meanwhile
    for i, (tokens, session) in enumerate(sequences):
        tensors[f"tokens.{i}"] = ("int32", tokens)
        own = session.fork()
        own.clear_rest()  # which may be what another text had there
        for c, pages in enumerate(own.pages()):
            table = np.full(len(pages), _NO_PAGE, np.int32)
            for at, page in enumerate(pages):
                if page is not None:
                    table[at] = numbers.setdefault(page.address, len(numbers))
                    if table[at] == len(kept):
                        kept.append(page)
            tensors[f"pages.{i}.{c}"] = ("int32", table)
    tensors.update({f"page.{n}": ("uint8", page.array()) for n, page in enumerate(kept)})
    checksum = 0
    for name in sorted(tensors):
        checksum = _add(checksum, name, tensors[name][1])
    with replacing(path) as partial:
        write_file(partial, tensors, {**_origin(engine, config), _CHECKSUM: f"{checksum:016x}"})


def read(path: Path, engine: _core.Engine, config: ModelConfig) -> list[tuple[Ids, _core.Session]]:
    """What `write` wrote, for an equal model. CheckpointError: it is another's, or damaged; before memory is taken by
    its numbers."""
    file = open_file(path)
    _check_origin(path, file.metadata, _origin(engine, config))
    try:
        _check_tensors(file)
        pages: dict[tuple[int, int], _core.Page] = {}
        n = sum(name.startswith("tokens.") for name in file.entries)
        return [_sequence(file, i, engine, config, pages) for i in range(n)]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged: {error}; {_ADVICE}") from None


def _check_tensors(file: Opened) -> None:
    """ValueError: other tensors than were written."""
    checksum = 0
    for name, entry in sorted(file.entries.items()):
        if (entry.dtype, len(entry.shape)) != _KINDS.get(name.split(".")[0]):
            raise ValueError(f"the tensor {shown(name)} should not be there")
        checksum = _add(checksum, name, _array(file, name))
    if f"{checksum:016x}" != file.metadata[_CHECKSUM]:
        raise ValueError("its checksum is another")


def _sequence(
    file: Opened, i: int, engine: _core.Engine, config: ModelConfig, pages: dict[tuple[int, int], _core.Page]
) -> tuple[Ids, _core.Session]:
    """One of a file's sequences. `pages`: those that were read, by class and number."""
    tokens: Ids = _array(file, f"tokens.{i}")
    tokens = as_ids(tokens, config.n_vocab, "its tokens") if len(tokens) else tokens
    lists: list[list[_core.Page | None]] = []
    while (name := f"pages.{i}.{len(lists)}") in file.entries:
        table = _array(file, name)
        for key in {(len(lists), int(n)) for n in table if n != _NO_PAGE} - pages.keys():
            pages[key] = engine.page(key[0], _array(file, f"page.{key[1]}"))
        lists.append([pages.get((len(lists), int(n))) for n in table])
    return tokens, engine.restore(len(tokens), lists)


def _array(file: Opened, name: str) -> NDArray[Any]:
    """A tensor's values, read and not mapped: a file that is cut meanwhile is an error, and not the process's end."""
    entry = file.entries[name]
    dtype = np.dtype("<i4") if entry.dtype == "I32" else np.dtype(np.uint8)
    with os.fdopen(os.dup(file.file.fd), "rb") as handle:
        handle.seek(file.data + entry.begin)
        data = handle.read(entry.end - entry.begin)
    if len(data) != entry.end - entry.begin:
        raise ValueError(f"the tensor {shown(name)} is cut short")
    return np.frombuffer(data, dtype).reshape(entry.shape)


def _add(checksum: int, name: str, array: NDArray[np.generic]) -> int:
    """The checksum of what came before and a tensor."""
    return _core.xxh64(np.ascontiguousarray(array), _core.xxh64(np.frombuffer(name.encode(), np.uint8), checksum))


def _origin(engine: _core.Engine, config: ModelConfig) -> dict[str, str]:
    """Whose cache it is: what its bits depend on besides the tokens."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "pygpt": _core.build_info()["version"],
        "kv": engine.kv,
        "config": hashlib.sha256(repr(config.for_core()).encode()).hexdigest(),
        "weights": f"{engine.fingerprint():016x}",
    }


def _check_origin(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    if found.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: no session that pygpt saved")
    if odd := sorted(found.keys() ^ {*wanted, _CHECKSUM}):
        raise CheckpointError(f"{path}: damaged: check {shown(odd[0])} in its metadata; {_ADVICE}")
    for key, what in _DIFFERENCES.items():
        if found[key] != wanted[key]:
            raise CheckpointError(f"{path}: {what.format(shown(found[key]), shown(wanted[key]))}; {_ADVICE}")
