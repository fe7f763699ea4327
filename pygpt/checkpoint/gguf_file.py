"""Parsing a GGUF file: metadata, then tensor descriptions, then the tensors' bytes.

A parser of our own, because `gguf.GGUFReader` makes several NumPy arrays of every string in a vocabulary (5 s for
49152 tokens, where this takes 0.05 s) and trusts the counts that it reads.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.checkpoint.tensor import MappedFile
from pygpt.errors import CheckpointError

VERSIONS = (2, 3)
MAX_DIMS = 4
STRING, ARRAY = 8, 9
NUMBERS = {  # value type in the file -> struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_MIN_FIELD, _MIN_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8  # bytes of the shortest possible entry


class QuantType(NamedTuple):
    """How one tensor type stores its values: `nbytes` for each `block` of values along a row."""

    name: str
    block: int
    nbytes: int


_PLAIN = (QuantType("F32", 1, 4), QuantType("F16", 1, 2), QuantType("BF16", 1, 2))
_BY_NAME = {t.name: t for t in (*_PLAIN, *(QuantType(name, *sizes) for name, sizes in _core.block_formats().items()))}
_NAMES = {  # ggml's numbers of all its types of floating-point numbers
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
QUANT_TYPES = {number: _BY_NAME[name] for number, name in _NAMES.items() if name in _BY_NAME}


class TensorInfo(NamedTuple):
    """One tensor of a file; `shape` is (outputs, inputs), `offset` counts from the start of the file."""

    file: MappedFile
    name: str
    shape: tuple[int, ...]
    type: QuantType
    offset: int
    nbytes: int


class GgufFile(NamedTuple):
    """A parsed file. Metadata values are bool, int, float, str, a NumPy array, or list[bytes] for arrays of strings;
    and bytes for a string that is not UTF-8, which does no harm in a name that only people read."""

    path: Path
    metadata: dict[str, object]
    tensors: dict[str, TensorInfo]


def parse(path: Path) -> GgufFile:
    """Read everything but the tensors' values. Raises CheckpointError for a damaged file.

    No count or length is believed before it was compared with what the file still holds.
    """
    file = MappedFile(path)
    if file.size < 24:
        raise CheckpointError(f"{path}: {file.size} bytes are too few for a GGUF file")
    with file.map(0, file.size, "the metadata") as buffer:
        cursor = _Cursor(path, buffer, file.size)
        try:
            return _parse(file, cursor)
        except struct.error as error:  # unpack_from beyond the end
            raise CheckpointError(f"{path}: truncated at byte {cursor.pos} of the metadata") from error


class _Cursor:
    """A position in the file. Every read is bounded by the file's size."""

    def __init__(self, path: Path, buffer: mmap.mmap, size: int) -> None:
        self.path, self.buffer, self.size, self.pos = path, buffer, size, 0

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {message} (at byte {self.pos})")

    def number(self, code: str) -> int | float | bool:
        (value,) = struct.unpack_from("<" + code, self.buffer, self.pos)
        self.pos += struct.calcsize("<" + code)
        return value  # type: ignore[no-any-return]

    def count(self, code: str, what: str, least: int) -> int:
        """How many entries of at least `least` bytes follow."""
        value = int(self.number(code))
        if value * least > self.size - self.pos:
            raise self.error(f"announces {value} {what}, more than the rest of the file can hold")
        return value

    def string(self, what: str) -> str:
        try:
            return self.raw_string(what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8") from error

    def raw_string(self, what: str) -> bytes:
        length = self.count("Q", f"bytes of {what}", 1)
        self.pos += length
        return self.buffer[self.pos - length : self.pos]

    def strings(self, key: str) -> list[bytes]:
        """An array of strings, undecoded."""
        count = self.count("Q", f"strings in {key!r}", 8)
        try:
            strings, self.pos = _core.split_strings(self.buffer, self.pos, count)
        except ValueError as error:
            raise self.error(f"a string in {key!r} ends beyond the file") from error
        return strings

    def numbers(self, key: str, code: str) -> NDArray[np.generic]:
        width = struct.calcsize("<" + code)
        count = self.count("Q", f"numbers in {key!r}", width)
        out = np.frombuffer(self.buffer[self.pos : self.pos + count * width], np.dtype("<" + code))
        self.pos += count * width
        return out

    def value(self, key: str) -> object:
        kind = self.number("I")
        if kind == STRING:
            raw = self.raw_string(repr(key))
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                return raw
        if kind == ARRAY:
            item = int(self.number("I"))
            if item == STRING:
                return self.strings(key)
            if item in NUMBERS:
                return self.numbers(key, NUMBERS[item])
            raise self.error(f"{key!r} is an array of the unknown type {item}")
        if kind in NUMBERS:
            value = self.number(NUMBERS[int(kind)])
            # The shortest decimal that gives this float32: 1e-05, not 9.999999747378752e-06.
            return float(str(np.float32(value))) if NUMBERS[int(kind)] == "f" else value
        raise self.error(f"{key!r} has the unknown type {kind}")


def _parse(file: MappedFile, cursor: _Cursor) -> GgufFile:
    path = file.path
    if cursor.buffer[:4] != b"GGUF":
        raise CheckpointError(f"{path}: not a GGUF file: it begins with {cursor.buffer[:4]!r}")
    cursor.pos = 4
    version = int(cursor.number("I"))
    if version not in VERSIONS:
        allowed = " and ".join(map(str, VERSIONS))
        raise CheckpointError(f"{path}: GGUF version {version}; pygpt reads the little-endian versions {allowed}")
    n_tensors = cursor.count("Q", "tensors", _MIN_TENSOR)
    n_fields = cursor.count("Q", "metadata fields", _MIN_FIELD)
    metadata: dict[str, object] = {}
    for _ in range(n_fields):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise cursor.error(f"the metadata key {key!r} occurs twice")
        metadata[key] = cursor.value(key)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise CheckpointError(f"{path}: general.alignment is {alignment!r}, but must be a power of two")
    infos = [_tensor_info(file, cursor) for _ in range(n_tensors)]
    data = cursor.pos + -cursor.pos % alignment
    return GgufFile(path, metadata, _placed(path, infos, data, alignment, file.size))


def _tensor_info(file: MappedFile, cursor: _Cursor) -> TensorInfo:
    """One description; its offset still counts from the start of the data."""
    name = cursor.string("a tensor's name")
    n_dims = int(cursor.number("I"))
    if not 0 < n_dims <= MAX_DIMS:
        raise cursor.error(f"tensor {name!r} has {n_dims} dimensions, not 1 to {MAX_DIMS}")
    shape = tuple(int(cursor.number("Q")) for _ in range(n_dims))[::-1]  # the file begins with the innermost
    kind, offset = int(cursor.number("I")), int(cursor.number("Q"))
    if kind not in QUANT_TYPES:
        allowed = ", ".join(t.name for t in QUANT_TYPES.values())
        raise cursor.error(f"tensor {name!r} has the type {_NAMES.get(kind, kind)}, which is none of {allowed}")
    quant = QUANT_TYPES[kind]
    if 0 in shape or shape[-1] % quant.block:
        raise cursor.error(
            f"tensor {name!r} has shape {list(shape)}, but rows of {quant.name} hold a multiple of {quant.block} values"
        )
    return TensorInfo(file, name, shape, quant, offset, math.prod(shape) // quant.block * quant.nbytes)


def _placed(path: Path, infos: list[TensorInfo], data: int, alignment: int, size: int) -> dict[str, TensorInfo]:
    """The tensors by name, with offsets from the start of the file; checked to lie inside it and apart."""
    tensors: dict[str, TensorInfo] = {}
    end, before = 0, ""
    for info in sorted(infos, key=lambda info: info.offset):
        where = f"{path}: tensor {info.name!r}"
        if info.name in tensors:
            raise CheckpointError(f"{where} occurs twice")
        if info.offset % alignment:
            raise CheckpointError(f"{where} begins at byte {info.offset} of the data, not a multiple of {alignment}")
        if info.offset < end:
            raise CheckpointError(
                f"{where} begins at byte {info.offset} of the data and overlaps {before!r}, up to {end}"
            )
        end, before = info.offset + info.nbytes, info.name
        if data + end > size:
            raise CheckpointError(f"{where} ends at byte {data + end}, but the file has {size}: truncated?")
        tensors[info.name] = info._replace(offset=data + info.offset)
    return tensors
