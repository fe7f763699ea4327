"""Tensors that stay in their file until they are asked for."""

from __future__ import annotations

import functools
import math
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pygpt import _core
from pygpt.errors import CheckpointError

Dtype = Literal["float32", "float16", "bfloat16"]
NUMPY_DTYPES: dict[Dtype, np.dtype[np.generic]] = {  # bfloat16, which NumPy lacks, travels as uint16
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}


class _Mapping(mmap.mmap):
    """A stretch of a file, which knows where it begins there."""

    file: MappedFile
    start: int


class MappedFile:
    """A file open for reading, of which any stretch can be mapped into memory.

    Each stretch is a mapping of its own, which ends with the last array that uses it: what a loader has dealt with no
    longer counts as the process's memory. The file stays open, so deleting it meanwhile does no harm (except on
    Windows, which refuses to delete it); its size is looked up before each mapping, so one that was cut short gives a
    `CheckpointError`. A file that is cut while an array is read through its map still ends the process with SIGBUS, as
    with any memory map; matrices are packed from the file itself. Usable from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self.fd)
            self.size = os.fstat(self.fd).st_size
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error

    def map(self, offset: int, nbytes: int, what: str) -> mmap.mmap:
        """Map at least the bytes [offset, offset + nbytes), from a page's start on; `what` names them in errors."""
        if offset + nbytes > (size := os.fstat(self.fd).st_size):
            raise CheckpointError(
                f"{self.path}: {what} ends at byte {offset + nbytes}, but the file has {size} bytes (it had "
                f"{self.size} when it was opened)"
            )
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        try:
            mapping = _Mapping(self.fd, offset + nbytes - start, access=mmap.ACCESS_READ, offset=start)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path}: cannot map {what}: {error}") from error
        mapping.file, mapping.start = self, start
        return mapping

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], what: str) -> NDArray[np.generic]:
        """A read-only, C-contiguous view of the file; a copy only where the file does not align the values."""
        count = math.prod(shape)
        if count == 0:
            return np.empty(shape, dtype)
        mapping = self.map(offset, count * dtype.itemsize, what)
        flat = np.frombuffer(mapping, dtype, count, offset % mmap.ALLOCATIONGRANULARITY)
        return (flat if flat.flags.aligned else flat.copy()).reshape(shape)


def file_of(array: NDArray[np.generic]) -> tuple[int, int] | None:
    """The descriptor of the file that an array is a view of, and where its first value is there; None: of none. The
    file is open for as long as the array is there."""
    mapping = _mapping(array)
    if mapping is None:
        return None
    begin: int = np.frombuffer(mapping, np.uint8, 1).__array_interface__["data"][0]
    return mapping.file.fd, mapping.start + array.__array_interface__["data"][0] - begin


def forget(array: NDArray[np.generic]) -> None:
    """Take the pages of a view of a file out of the process's memory; whatever is read again comes from the file."""
    mapping = _mapping(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapping(array: NDArray[np.generic]) -> _Mapping | None:
    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, _Mapping) else None


def numbers(raw: NDArray[np.generic], kind: str) -> NDArray[np.generic]:
    """A tensor's values, of what `raw` says under a `kind` (see `Stored`), in a type that NumPy computes with."""
    if kind == "bfloat16":  # the upper half of a float32
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if kind in NUMPY_DTYPES:
        return raw
    blocks = np.ascontiguousarray(raw, np.uint8).reshape(-1, _core.block_formats()[kind][1])
    return _core.dequantize(kind, blocks).reshape(*raw.shape[:-1], -1)


class Stored(NamedTuple):
    """A tensor as a file holds it, under the file's own name and shape."""

    file: Path
    name: str
    dtype: str  # the file's word for it, for messages
    shape: tuple[int, ...]
    kind: str | None  # what `read` gives: a `Dtype`, or a type of blocks; None: nothing that pygpt computes with
    read: Callable[[], NDArray[np.generic]]
    read_part: Callable[[int], NDArray[np.generic]] | None = None  # what it gives for one place along the first axis

    def part(self, place: int) -> Stored:
        """What lies at a place along the first axis."""
        read, read_part = self.read, self.read_part
        one = (lambda: read()[place]) if read_part is None else functools.partial(read_part, place)
        return self._replace(shape=self.shape[1:], read=one, read_part=None)

    def plain(self) -> Stored:
        """The same with values that can change places: no blocks."""
        if self.kind is None or self.kind in NUMPY_DTYPES:
            return self
        read, kind = self.read, self.kind
        return self._replace(kind="float32", read=lambda: numbers(read(), kind))


class Tensor:
    """A canonical tensor of a checkpoint; nothing is read before `raw` or NumPy asks. Usable from several threads."""

    __slots__ = ("_read", "dtype", "name", "shape", "source")

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: str, read: Callable[[], NDArray[np.generic]], source: str
    ) -> None:
        self.name, self.shape, self.dtype, self._read = name, shape, dtype, read
        self.source = source  # the file and its own name for the tensor, for messages

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {list(self.shape)}, {self.dtype})"

    def first_rows(self, n: int) -> Tensor:
        """The first n rows of this one."""
        return Tensor(self.name, (n, *self.shape[1:]), self.dtype, lambda: self._read()[:n], self.source)

    def raw(self) -> NDArray[np.generic]:
        """The values in the checkpoint's own type (bfloat16 as uint16): a view of the memory-mapped file, possibly
        transposed or strided. Of a quantised tensor of a GGUF file, whose `dtype` is ggml's name for the type, rows of
        its blocks: uint8 (outputs, bytes of a row).

        Raises CheckpointError where the file has shrunk since it was opened.
        """
        return self._read()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        """The values as float32, or as `dtype`: ``np.asarray(tensor, np.float64)``."""
        raw = self.raw()
        values = numbers(raw, self.dtype)
        values = values.astype(np.float32 if dtype is None else dtype, copy=bool(copy))
        if copy is False and values is not raw:
            raise ValueError(f"{self.name} is {self.dtype} in the file: {values.dtype} takes a copy")
        return values
