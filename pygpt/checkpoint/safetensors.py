"""Reading safetensors files: 8 bytes of header length, a JSON header, and the tensors' bytes without holes.

The format is parsed here and not by the package `safetensors`, because that copies every tensor and knows no bfloat16
in NumPy. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import NamedTuple

from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, MappedFile, Stored
from pygpt.errors import CheckpointError

INDEX_SUFFIX = ".safetensors.index.json"
MAX_HEADER = 100_000_000  # bytes, the limit of the format's own library
MAX_DIMS = 32
BITS = {  # of one value of each type that the format knows
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
KINDS: dict[str, Dtype] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class _Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_file(path: Path) -> dict[str, Stored]:
    """Every tensor of one file. Raises CheckpointError unless the header accounts for each byte of the file."""
    file = MappedFile(path)
    header, data = _header(file)
    entries = [_entry(path, name, value) for name, value in header.items() if name != "__metadata__"]
    _check_layout(path, entries, file.size - data)
    return {e.name: _stored(file, e, data) for e in entries}


def read_sharded(index: Path) -> dict[str, Stored]:
    """Every tensor of the files that an index (``model.safetensors.index.json``) names."""
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{index}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{index}: not valid JSON: {error}") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index}: expected a table 'weight_map' from tensor names to file names")
    tensors: dict[str, Stored] = {}
    for shard in sorted(set(weight_map.values())):
        if shard != Path(shard).name or shard in ("", ".", ".."):
            raise CheckpointError(f"{index}: the shard {shard!r} is not the name of a file in the same folder")
        path = index.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{index}: the shard {shard!r} is not there")
        for name, stored in read_file(path).items():
            if weight_map.get(name) != shard:
                where = f"in {weight_map[name]!r}" if name in weight_map else "nowhere"
                raise CheckpointError(f"{path}: holds the tensor {name!r}, which the index {index.name} puts {where}")
            tensors[name] = stored
    for name, shard in weight_map.items():
        if name not in tensors:
            raise CheckpointError(f"{index}: puts the tensor {name!r} in {shard!r}, which does not hold it")
    return tensors


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


def _entry(path: Path, name: str, value: object) -> _Entry:
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
    return _Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**48 for v in value
    )


def _check_layout(path: Path, entries: list[_Entry], data_bytes: int) -> None:
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


def _stored(file: MappedFile, e: _Entry, data: int) -> Stored:
    kind = KINDS.get(e.dtype)
    dtype = NUMPY_DTYPES[kind or "float32"]
    read = functools.partial(file.array, data + e.begin, e.shape, dtype, f"tensor {e.name!r}")
    return Stored(file.path, e.name, e.dtype, e.shape, kind, read)
