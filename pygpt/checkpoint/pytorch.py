"""Files of `torch.save`: a pickle that describes tensors, and the storages that they lie in, mapped where they are.

Since PyTorch 1.6 a zip archive whose members are stored as they are; before that (and with
``_use_new_zipfile_serialization=False``) several pickles with the storages behind them. The pickle is read as data
(`pygpt.checkpoint.unpickle`), so that nothing of a hostile file is ever run.
Formats: torch/serialization.py.
"""

from __future__ import annotations

import functools
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pygpt._json import shown
from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, MappedFile, Stored
from pygpt.checkpoint.unpickle import Call, Name, Persistent, unpickle
from pygpt.errors import CheckpointError

_ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the old format
_MAX_DIMS, _MAX_SIZE, _MAX_DEPTH = 32, 2**48, 32
_LOCAL = struct.Struct("<4s22xHH")  # a zip member's header: the signature, the lengths of its name and extra field
_STORAGES: dict[str, tuple[str, int, Dtype | None]] = {  # the class's name -> dtype, bytes of a value, what it is here
    "FloatStorage": ("F32", 4, "float32"),
    "HalfStorage": ("F16", 2, "float16"),
    "BFloat16Storage": ("BF16", 2, "bfloat16"),
    **{
        f"{name}Storage": (dtype, n_bytes, None)
        for name, dtype, n_bytes in (
            *(("Double", "F64", 8), ("Long", "I64", 8), ("Int", "I32", 4), ("Short", "I16", 2)),
            *(("Char", "I8", 1), ("Byte", "U8", 1), ("Bool", "BOOL", 1)),
        )
    },
}
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
_NAMES = {"collections.OrderedDict", _TENSOR, _PARAMETER, *(f"torch.{name}" for name in _STORAGES)}


def read_pytorch(path: Path) -> dict[str, object]:
    """The table that was saved: tables, lists, tuples, numbers, texts, and tensors as `Stored`, without names.

    Raises CheckpointError for a damaged file, and for one that holds or would run anything else.
    """
    file = MappedFile(path)
    with file.map(0, min(file.size, 4), "the first bytes") as begin:
        zipped = begin[:4] == _ZIP
    value, places = _zip(file) if zipped else _legacy(file)
    table = _Reader(file, places).value(value)
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: holds a {type(table).__name__}, not a table of tensors")
    return table


def tensors_of(path: Path, table: Mapping[str, object]) -> dict[str, Stored]:
    """The tensors of a table of tensors, each with its name. CheckpointError where it holds anything else."""
    found = {}
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, Stored):
            raise CheckpointError(
                f"{path}: {shown(name)} is a {type(value).__name__}, but a table of tensors was expected"
            )
        found[name] = value._replace(name=name)
    return found


class _Place(NamedTuple):
    """Where a storage lies in the file."""

    offset: int
    nbytes: int


def _zip(file: MappedFile) -> tuple[object, dict[str, _Place]]:
    """The pickle's value, and the storages by their key."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{file.path}: not a whole zip archive: {error}") from error
    members = {m.filename: m for m in listed}
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(members) < len(listed) or len(roots) != 1:
        raise CheckpointError(f"{file.path}: a zip archive, but none that torch.save wrote: it needs one data.pkl")
    order = roots[0] + "byteorder"
    if order in members and _bytes(file, _member(file, members[order]), "the byte order") != b"little":
        raise CheckpointError(f"{file.path}: its byte order must be little")
    data = _bytes(file, _member(file, members[roots[0] + "data.pkl"]), "data.pkl")
    value, _ = unpickle(data, str(file.path), _NAMES)
    folder = roots[0] + "data/"
    named = {n.removeprefix(folder): _member(file, m) for n, m in members.items() if n.startswith(folder)}
    for key, (kind, n) in _storages(value, str(file.path)).items():
        if key not in named or named[key].nbytes != n * _STORAGES[kind][1]:
            raise CheckpointError(f"{file.path}: storage {shown(key)} is not there with {n} values of torch.{kind}")
    return value, named


def _member(file: MappedFile, member: zipfile.ZipInfo) -> _Place:
    """Where a member's bytes are: behind its local header, whose lengths may be other than the directory's."""
    what = f"the archive's member {shown(member.filename)}"
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise CheckpointError(f"{file.path}: {what} is compressed, which torch.save does not do")
    if not 0 <= member.header_offset <= file.size - _LOCAL.size:
        raise CheckpointError(f"{file.path}: {what} is not in the file")
    signature, n_name, n_extra = _LOCAL.unpack(_bytes(file, _Place(member.header_offset, _LOCAL.size), what))
    begin = member.header_offset + _LOCAL.size + n_name + n_extra
    if signature != _ZIP or begin + member.file_size > file.size:
        raise CheckpointError(f"{file.path}: {what} is not in the file")
    return _Place(begin, member.file_size)


def _legacy(file: MappedFile) -> tuple[object, dict[str, _Place]]:
    """The same of the format before zip archives: a magic number, a version, facts about the machine, the value, the
    storages' keys, and then each storage's length and bytes."""
    where = str(file.path)
    data = memoryview(file.map(0, file.size, "the file"))
    magic, at = unpickle(data, where, _NAMES)
    version, at = unpickle(data, where, _NAMES, at) if magic == _MAGIC else (None, 0)
    if version != _PROTOCOL:
        raise CheckpointError(f"{where}: a pickle, but none that torch.save wrote")
    machine, at = unpickle(data, where, _NAMES, at)
    value, at = unpickle(data, where, _NAMES, at)
    keys, at = unpickle(data, where, _NAMES, at)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError(f"{where}: its byte order must be little")
    wanted = _storages(value, where)
    if not isinstance(keys, list) or [k for k in keys if type(k) is not str] or sorted(keys) != sorted(wanted):
        raise CheckpointError(f"{where}: the storages behind the pickle are not those that it names")
    places = {}
    for key in keys:
        kind, n = wanted[key]
        nbytes = n * _STORAGES[kind][1]
        if at + 8 + nbytes > file.size or int.from_bytes(_bytes(file, _Place(at, 8), "a length"), "little") != n:
            raise CheckpointError(f"{where}: storage {shown(key)} is not there with {n} values of torch.{kind}")
        places[key] = _Place(at + 8, nbytes)
        at += 8 + nbytes
    return value, places


def _bytes(file: MappedFile, place: _Place, what: str) -> bytes:
    return file.array(place.offset, (place.nbytes,), np.dtype(np.uint8), what).tobytes()


def _storages(value: object, where: str) -> dict[str, tuple[str, int]]:
    """(kind, number of values) of each storage that a value names, by its key."""
    found: dict[str, tuple[str, int]] = {}
    seen: set[int] = set()
    left = [value]
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Persistent):
            key, kind, n = _storage(item, where)
            if found.setdefault(key, (kind, n)) != (kind, n):
                raise CheckpointError(f"{where}: storage {shown(key)} is described in two ways")
        elif isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, (list, tuple)):  # also a Call
            left.extend(item)
    return found


def _storage(item: Persistent, where: str) -> tuple[str, str, int]:
    """The key, the kind and the number of values of a storage."""
    match item.key:
        case ("storage", Name(text), str(key), str(), int(n), *view) if view in ([], [None]):
            kind = text.removeprefix("torch.")
            if kind in _STORAGES and type(n) is int and 0 <= n <= _MAX_SIZE:
                return key, kind, n
    raise CheckpointError(f"{where}: {shown(item.key)} is no storage that pygpt knows")


class _Reader:
    """Puts tensors in the place of the calls that would make them."""

    def __init__(self, file: MappedFile, places: Mapping[str, _Place]) -> None:
        self.file, self.places = file, places
        self._done: dict[int, object] = {}  # by the identity of what was read: a value may stand in many places
        self._tensors: dict[object, Stored] = {}

    def value(self, item: object, depth: int = 0) -> object:
        if depth > _MAX_DEPTH:
            raise CheckpointError(f"{self.file.path}: its tables are nested deeper than any model's")
        if isinstance(item, (dict, list, tuple)):  # also a Call
            if id(item) not in self._done:
                self._done[id(item)] = self._made(item, depth + 1)
            return self._done[id(item)]
        return item

    def _made(self, item: dict[object, object] | list[object] | tuple[object, ...], depth: int) -> object:
        match item:
            case Call(name, (tensor, _, _)) if name == _PARAMETER:
                return self.value(tensor, depth)
            case Call(name, (Persistent() as storage, offset, size, stride, _, *_)) if name == _TENSOR:
                return self._tensor(storage, offset, size, stride)
            case Name() | Persistent():
                raise CheckpointError(f"{self.file.path}: holds {shown(item)} outside of a tensor")
            case Call(name, _):
                raise CheckpointError(f"{self.file.path}: calls {name} with other arguments than those of a tensor")
            case dict():
                return {key: self.value(value, depth) for key, value in item.items()}
            case _:
                return type(item)(self.value(value, depth) for value in item)

    def _tensor(self, item: Persistent, offset: object, size: object, stride: object) -> Stored:
        key, kind, n = _storage(item, str(self.file.path))
        identity = (key, offset, size, stride)
        if type(offset) is not int or offset < 0 or not _sizes(size) or not _sizes(stride) or len(size) != len(stride):
            raise CheckpointError(f"{self.file.path}: a tensor in storage {key} has no proper shape: {shown(identity)}")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if count > n or (count and last >= n):
            raise CheckpointError(f"{self.file.path}: a tensor of shape {shown(size)} is not inside storage {key}")
        dtype, n_bytes, known = _STORAGES[kind]
        if identity not in self._tensors:
            begin = self.places[key].offset + offset * n_bytes
            span = last - offset + 1 if count else 0
            read = functools.partial(_view, self.file, begin, span, size, stride, known or "float32", f"storage {key}")
            self._tensors[identity] = Stored(self.file.path, "", dtype, size, known, read)
        return self._tensors[identity]


def _sizes(values: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(values, tuple)
        and len(values) <= _MAX_DIMS
        and all(type(v) is int and 0 <= v <= _MAX_SIZE for v in values)
    )


def _view(
    file: MappedFile, begin: int, span: int, size: tuple[int, ...], stride: tuple[int, ...], kind: Dtype, what: str
) -> NDArray[np.generic]:
    """A view of the file, strided as the tensor was."""
    flat = file.array(begin, (span,), NUMPY_DTYPES[kind], what)
    if all(step == math.prod(size[i + 1 :]) for i, step in enumerate(stride)):
        return flat.reshape(size)
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat, size, steps, writeable=False)
