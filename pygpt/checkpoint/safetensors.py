"""Safetensors files: 8 bytes of header length, a JSON header, and the tensors' bytes without holes.

The package `safetensors` parses the header and checks it: what is in it may come from anyone. The bytes are mapped
here, because the package copies every tensor and knows no bfloat16 in NumPy. Files are written here, because it takes
tensors as bytes, a second copy of the model in memory, and aligns data to 8 bytes only.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt._json import parse_table, read_table, shown
from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, MappedFile, Stored
from pygpt.errors import CheckpointError
from pygpt.families import keys

MAX_DIMS, MAX_SIZE = 32, 2**48  # of a shape; NumPy can hold no more
BITS = {  # of one value of each type that the format knows
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
KINDS: dict[str, Dtype] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
PACKED: dict[str, tuple[str, np.dtype[np.generic]]] = {  # the engine's name of a type -> the format's, and NumPy's
    "float32": ("F32", np.dtype("<f4")),
    "bfloat16": ("BF16", np.dtype("<u2")),
    "int8": ("I8", np.dtype("i1")),
    "uint8": ("U8", np.dtype("u1")),  # MXFP4
    "int32": ("I32", np.dtype("<i4")),
}
PYGPT = {"format": "pygpt"}  # whose tensors they are, as the metadata says: pygpt's ...
PYTORCH = {"format": "pt"}  # ... or PyTorch's
_FIELDS = {"dtype", "shape", "data_offsets"}
ALIGNMENT = 64  # of data in written files, in bytes: a cache line


class Entry(NamedTuple):
    """A tensor as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Opened(NamedTuple):
    """A file whose header was read."""

    file: MappedFile
    entries: dict[str, Entry]
    data: int  # where the data begins
    metadata: dict[str, str]

    def arrays(self, dtypes: Mapping[str, np.dtype[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Read-only views; a copy where the file does not align the values. Matrices share one map of the whole file,
        vectors have one each, which can be given back soon."""
        whole = np.frombuffer(self.file.map(0, self.file.size, "the data"), np.uint8)
        arrays = {}
        for name, dtype in dtypes.items():
            e = self.entries[name]
            if len(e.shape) == 1:
                arrays[name] = self.file.array(self.data + e.begin, e.shape, dtype, f"tensor {name!r}")
                continue
            flat = whole[self.data + e.begin : self.data + e.end].view(dtype)
            arrays[name] = (flat if flat.flags.aligned else flat.copy()).reshape(e.shape)
        return arrays


def open_file(path: Path) -> Opened:
    """Read one file's header. Raises CheckpointError unless it accounts for each byte of the file."""
    file = MappedFile(path)
    entries, metadata = _header(file)
    return Opened(file, entries, _data(file, sum(e.end - e.begin for e in entries.values())), metadata)


def read_file(path: Path) -> dict[str, Stored]:
    """Every tensor of one file."""
    file, entries, data, _ = open_file(path)
    return {name: _stored(file, e, data) for name, e in entries.items()}


def write_file(
    path: Path, tensors: Mapping[str, tuple[str, NDArray[np.generic]]], metadata: Mapping[str, str] = PYGPT
) -> None:
    """Write (type, array) by name, straight from the arrays' memory. The data begins at a multiple of `ALIGNMENT`, and
    so does each tensor but those after the first of another length."""
    order = sorted(tensors, key=lambda name: tensors[name][1].nbytes % ALIGNMENT != 0)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for name in order:
        dtype, array = tensors[name]
        offsets = [at, at + array.nbytes]
        header[name] = {"dtype": PACKED[dtype][0], "shape": list(array.shape), "data_offsets": offsets}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name][1]).data)


def read_sharded(
    index: Path, may_lack: Collection[str] = (), read: Callable[[Path], dict[str, Stored]] = read_file
) -> dict[str, Stored]:
    """Every tensor of the files that an index (``model.safetensors.index.json``) names, each of which `read` reads.

    `may_lack` are names of the index that no file needs to hold: a head that is the embedding.
    """
    weight_map = _weight_map(index)
    tensors: dict[str, Stored] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{index}: the shard {shard!r} is not there")
        for name, stored in read(path).items():
            if weight_map.get(name) != shard:
                where = f"in {weight_map[name]!r}" if name in weight_map else "nowhere"
                raise CheckpointError(f"{path}: holds the tensor {name!r}, which the index {index.name} puts {where}")
            tensors[name] = stored
    for name, shard in weight_map.items():
        if name not in tensors and name not in may_lack:
            raise CheckpointError(f"{index}: puts the tensor {name!r} in {shard!r}, which does not hold it")
    return tensors


def shards(index: Path) -> set[str]:
    """The names of the files that an index names."""
    return set(_weight_map(index).values())


def _weight_map(index: Path) -> dict[str, str]:
    """The file that holds each tensor, all in the index's own folder."""
    document = read_table(index, CheckpointError)
    weight_map = document.pop("weight_map", None)
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index}: expected a table 'weight_map' from tensor names to file names")
    keys.refuse_unknown(document, keys.INDEX, str(index))
    for shard in weight_map.values():
        if shard != Path(shard).name or shard in ("", ".", ".."):
            raise CheckpointError(f"{index}: the shard {shown(shard)} is not the name of a file in the same folder")
    return weight_map


def _header(file: MappedFile) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors in the order of their data, and the metadata, as the format's own library reads and checks them."""
    from safetensors import SafetensorError, safe_open  # here, because importing pygpt need not wait for it

    try:
        with safe_open(file.path, framework="np") as opened:
            found = ((name, opened.get_slice(name)) for name in opened.offset_keys())
            described = [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in found]
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(f"{file.path}: not a whole safetensors file, {file.size} bytes: {reason}") from error
    entries: dict[str, Entry] = {}
    at = 0  # the library has checked that the tensors lie one after the other, without holes
    for name, dtype, shape in described:
        if dtype not in BITS:
            raise CheckpointError(f"{file.path}: tensor {name!r} has the type {dtype}, which pygpt does not know")
        if len(shape) > MAX_DIMS or max(shape, default=0) > MAX_SIZE:
            raise CheckpointError(f"{file.path}: tensor {name!r} has a shape that NumPy cannot hold: {shown(shape)}")
        begin, at = at, at + math.prod(shape) * BITS[dtype] // 8
        entries[name] = Entry(name, dtype, shape, begin, at)
    return entries, metadata


def _data(file: MappedFile, n_bytes: int) -> int:
    """Where the data begins.

    The header is read once more for what the library passes over: a tensor described twice, and keys that it does not
    know.
    """
    with file.map(0, 8, "the header's length") as head:
        data = 8 + int.from_bytes(head[:8], "little")
    if data + n_bytes != file.size:
        raise CheckpointError(f"{file.path}: was replaced while it was read")
    with file.map(0, data, "the header") as head:
        header = parse_table(head[8:data], f"{file.path}: the header", CheckpointError)
    for name, fields in header.items():
        if name != "__metadata__" and (not isinstance(fields, dict) or fields.keys() != _FIELDS):
            raise CheckpointError(f"{file.path}: tensor {shown(name)}: expected the keys {', '.join(sorted(_FIELDS))}")
    return data


def _stored(file: MappedFile, e: Entry, data: int) -> Stored:
    kind = KINDS.get(e.dtype)
    dtype = NUMPY_DTYPES[kind] if kind else np.dtype(np.uint8)  # other types are never read
    read = functools.partial(file.array, data + e.begin, e.shape, dtype, f"tensor {e.name!r}")
    return Stored(file.path, e.name, e.dtype, e.shape, kind, read)
