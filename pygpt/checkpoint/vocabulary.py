"""The vocabulary of a saved checkpoint, made ready: vocabulary.safetensors, beside the files that it was made of.

Reading a vocabulary's own files takes longer than all else that loading a saved model does. What was made of them is
used for as long as they are the same: their check sums are kept with it.
"""

from __future__ import annotations

import functools
import json
import zlib
from pathlib import Path

from pygpt._json import parse_table
from pygpt.checkpoint.safetensors import PACKED, PYGPT, open_file, write_file
from pygpt.errors import CheckpointError, TokenizerError
from pygpt.tokenizer import Tokenizer, saved_files, with_ready
from pygpt.tokenizer.encoding import Encoding
from pygpt.tokenizer.prepared import ARRAYS, restored

FILE = "vocabulary.safetensors"
_KEY, _MADE_OF = "vocabulary", "made_of"  # in the metadata
_VERSION = 1  # of the form of what is kept: another one's is not used
_KINDS = {name: "uint8" if name == "tokens" else "int32" for name in ARRAYS}
_TYPES = {name: PACKED[kind] for name, kind in _KINDS.items()}


def write(folder: Path, bos_id: int | None, eos_id: int | None) -> None:
    """Make the vocabulary of a folder's files ready, where its kind allows it. TokenizerError where it is damaged."""
    tokenizer = Tokenizer.from_folder(folder, bos_id=bos_id, eos_id=eos_id)
    prepared = None if tokenizer is None else tokenizer.prepared()
    if prepared is None:
        return
    table, arrays = prepared
    metadata = {_KEY: json.dumps(table), _MADE_OF: _made_of(folder, bos_id, eos_id)}
    write_file(folder / FILE, {name: (_KINDS[name], arrays[name]) for name in ARRAYS}, {**PYGPT, **metadata})


def of_folder(folder: Path, bos_id: int | None, eos_id: int | None) -> Tokenizer | None:
    """The tokenizer of a saved checkpoint."""
    tokenizer = Tokenizer.from_folder(folder, bos_id=bos_id, eos_id=eos_id)
    if tokenizer is None or not (folder / FILE).is_file():
        return tokenizer
    return with_ready(tokenizer, functools.partial(_read, folder, bos_id, eos_id))


def _read(folder: Path, bos_id: int | None, eos_id: int | None) -> Encoding | None:
    """None where the folder's files are no longer those that it was made of, or it has another version's form."""
    path = folder / FILE
    try:
        opened = open_file(path)
        if opened.metadata.get(_MADE_OF) != _made_of(folder, bos_id, eos_id):
            return None
        table = parse_table(opened.metadata.get(_KEY, ""), f"{path}: {_KEY}", TokenizerError)
        if opened.entries.keys() != set(ARRAYS):
            raise TokenizerError(f"{path}: expected the tensors {', '.join(ARRAYS)}")
        for name, (dtype, _) in _TYPES.items():
            if opened.entries[name].dtype != dtype:
                raise TokenizerError(f"{path}: tensor {name!r} is {opened.entries[name].dtype}, but must be {dtype}")
        arrays = opened.arrays({name: dtype for name, (_, dtype) in _TYPES.items()})
    except (CheckpointError, OSError) as error:
        raise TokenizerError(str(error)) from error
    return restored(table, arrays, str(path))


def _made_of(folder: Path, bos_id: int | None, eos_id: int | None) -> str:
    sums = {name: zlib.crc32((folder / name).read_bytes()) for name in saved_files(folder)}
    return json.dumps({"version": _VERSION, "files": sums, "bos_id": bos_id, "eos_id": eos_id})
