"""Safetensors files: 8 bytes of header length, a JSON header, and the tensors' bytes without holes.

The format is read and written here and not by the package `safetensors`, because that copies every tensor, both ways,
knows no bfloat16 in NumPy, and aligns data to 8 bytes. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt._json import read_table, shown
from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, MappedFile, Stored
from pygpt.errors import CheckpointError
from pygpt.families import keys

MAX_HEADER = 100_000_000  # bytes, the limit of the format's own library
MAX_DIMS = 32
BITS = {  # of one value of each type that the format knows
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
KINDS: dict[str, Dtype] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
PACKED: dict[str, tuple[str, np.dtype[np.generic]]] = {  # the engine's name of a type -> the format's, and NumPy's
    "float32": ("F32", np.dtype("<f4")),
    "bfloat16": ("BF16", np.dtype("<u2")),
    "int8": ("I8", np.dtype("i1")),
}
PYGPT = {"format": "pygpt"}  # whose tensors they are, as the metadata says: pygpt's ...
PYTORCH = {"format": "pt"}  # ... or PyTorch's
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
    header, data = _header(file)
    entries = [_entry(path, name, value) for name, value in header.items() if name != "__metadata__"]
    _check_layout(path, entries, file.size - data)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        metadata = {}
    return Opened(file, {e.name: e for e in entries}, data, metadata)


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


def read_sharded(index: Path, may_lack: Collection[str] = ()) -> dict[str, Stored]:
    """Every tensor of the files that an index (``model.safetensors.index.json``) names.

    `may_lack` are names of the index that no file needs to hold: a head that is the embedding.
    """
    weight_map = _weight_map(index)
    tensors: dict[str, Stored] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{index}: the shard {shard!r} is not there")
        for name, stored in read_file(path).items():
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


def _header(file: MappedFile) -> tuple[dict[str, object], int]:
    """The JSON header, and where the data begins."""
    path = file.path
    if file.size < 8:
        raise CheckpointError(f"{path}: {file.size} bytes are too few for a safetensors file")
    with file.map(0, 8, "the header's length") as head:
        length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER or 8 + length > file.size:
        raise CheckpointError(
            f"{path}: a header of {length} bytes is announced, but the file has {file.size} bytes and a header may "
            f"have {MAX_HEADER}: not a safetensors file, or truncated"
        )
    with file.map(0, 8 + length, "the header") as head:
        text = head[8 : 8 + length]
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is not a JSON table")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        raise ValueError(f"the key {next(k for k, _ in pairs if k in seen or seen.add(k))!r} occurs twice")  # type: ignore[func-returns-value]
    return table


def _entry(path: Path, name: str, value: object) -> Entry:
    """One header entry, its types checked."""
    where = f"{path}: tensor {name!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: expected the keys dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise CheckpointError(f"{where}: unknown dtype {dtype!r}; the format knows {', '.join(BITS)}")
    if not _naturals(shape) or len(shape) > MAX_DIMS:
        raise CheckpointError(f"{where}: shape {str(shape)[:80]} is not a list of at most {MAX_DIMS} sizes")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets {str(offsets)[:80]} is not a pair [begin, end]")
    return Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**48 for v in value
    )


def _check_layout(path: Path, entries: list[Entry], data_bytes: int) -> None:
    """The tensors must fill the data exactly: each as long as its shape says, none over another, no byte left."""
    for e in entries:
        expected = math.prod(e.shape) * BITS[e.dtype]
        if expected != 8 * (e.end - e.begin):
            raise CheckpointError(
                f"{path}: tensor {e.name!r}: shape {list(e.shape)} of {e.dtype} takes {expected // 8} bytes, but "
                f"data_offsets span {e.end - e.begin}"
            )
        if e.end > data_bytes:
            raise CheckpointError(
                f"{path}: tensor {e.name!r} ends at byte {e.end} of the data, but the file holds {data_bytes}: "
                "truncated?"
            )
    end, before = 0, "the start of the data"
    for e in sorted(entries, key=lambda e: (e.begin, e.end)):
        if e.begin != end:
            how = "overlaps" if e.begin < end else "leaves a hole after"
            raise CheckpointError(f"{path}: tensor {e.name!r} begins at byte {e.begin} and {how} {before}, up to {end}")
        end, before = e.end, f"tensor {e.name!r}"
    if end != data_bytes:
        raise CheckpointError(f"{path}: the tensors end at byte {end} of the data, but the file holds {data_bytes}")


def _stored(file: MappedFile, e: Entry, data: int) -> Stored:
    kind = KINDS.get(e.dtype)
    dtype = NUMPY_DTYPES[kind or "float32"]
    read = functools.partial(file.array, data + e.begin, e.shape, dtype, f"tensor {e.name!r}")
    return Stored(file.path, e.name, e.dtype, e.shape, kind, read)
