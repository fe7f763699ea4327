"""Pickles as data: what they may build, and hostile ones, of which nothing is run."""

from __future__ import annotations

import collections
import os
import pickle
import re
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt import checkpoint
from pygpt.checkpoint.pytorch import read_pytorch
from pygpt.checkpoint.unpickle import Call, Name, Persistent, unpickle
from pygpt.errors import CheckpointError

ALLOWED = {"collections.OrderedDict", "torch.FloatStorage", "torch._utils._rebuild_tensor_v2"}
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


def read(data: bytes) -> object:
    value, end = unpickle(data, "file", ALLOWED)
    assert end == len(data)
    return value


@given(plain, st.sampled_from([3, 4, 5]))
@settings(deadline=None, max_examples=200)
def test_plain_data(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_ordered_tables_and_names() -> None:
    assert read(pickle.dumps(collections.OrderedDict(b=1, a=[2]), 2)) == {"b": 1, "a": [2]}
    call = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(X\x07\x00\x00\x00storageQK\x01tR."
    assert read(call) == Call("torch._utils._rebuild_tensor_v2", (Persistent("storage"), 1))
    assert read(b"\x80\x02ctorch\nFloatStorage\n.") == Name("torch.FloatStorage")


class Hostile:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


HOSTILE = {
    "posix.system": Hostile(os.system, "touch {ran}"),
    "builtins.eval": Hostile(eval, "open('{ran}', 'w')"),
    "builtins.exec": Hostile(exec, "open('{ran}', 'w')"),
    "builtins.getattr": Hostile(getattr, "text", "upper"),
    "subprocess.Popen": Hostile(subprocess.Popen, ["touch", "{ran}"]),
    "builtins.__import__": Hostile(__import__, "os"),
    "numpy._core.multiarray.scalar": np.float64(1.0),
    "collections.Counter": collections.Counter("ab"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_run(tmp_path: Path, name: str, protocol: int, nested: bool) -> None:
    ran = tmp_path / "ran"
    value = HOSTILE[name]
    if isinstance(value, Hostile):
        value.arguments = tuple(a.replace("{ran}", str(ran)) if isinstance(a, str) else a for a in value.arguments)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": [1, value]} if nested else value, protocol))
    with pytest.raises(CheckpointError, match=f"imports '{re.escape(name)}'") as caught:
        checkpoint.read(path)
    assert "nothing is run" in str(caught.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is cut short"),
        (b"\x80\x02", "is cut short"),
        (b"\x80\x02.", "ends with 0 values"),
        (b"\x80\x02NN.", "ends with 2 values"),
        (b"\x80\x02N1.", "has the opcode b'1'"),
        (b"\x80\x02" + b"X\xff\xff\xff\xffab", "is cut short"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62), "is cut short"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62), "has the opcode"),  # BINBYTES8
        (b"\x80\x02h\x05.", "is damaged: KeyError"),
        (b"\x80\x02t.", "is damaged: IndexError"),
        (b"\x80\x02(R.", "takes more values than there are"),
        (b"\x80\x02(q\x00.", "remembers a mark"),
        (b"\x80\x02NNR.", "calls something that is no name"),
        (b"\x80\x02}N\x81.", "has the opcode"),  # NEWOBJ
        (b"\x80\x02Nb.", "is damaged: IndexError"),
        (b"\x80\x02]Nb.", "sets attributes of something that is no table"),
        (b"\x80\x02NNa.", "appends to something that is no list"),
        (b"\x80\x02NNNs.", "sets items of something that is no table"),
        (b"\x80\x02}]Ns.", "a table with a key of type list"),
        (b"\x80\x02}(N" + b"u.", "sets items of something that is no table"),
        (b"\x80\x02(ios\nsystem\n.", "has the opcode b'i'"),
        (b"\x80\x02cos\nsystem", "is cut short"),
        (b"\x80\x02cos\n\xff\xfe\n.", "is damaged: UnicodeDecodeError"),
        (b"\x80\x02" + b"N0" * (1 << 22), "is longer than any model's"),
        (b"\x80\x02" + b"}" * 100_000, "is cut short"),
    ],
)
def test_damaged_ones(data: bytes, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        unpickle(data, "file", ALLOWED)


def test_a_great_index_of_the_memo_takes_no_memory() -> None:
    assert read(b"\x80\x02Nr\xff\xff\xff\xff.") is None


def write_zip(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/data/0", bytes(400))
    return path


def tensor(offset: str = "K\x00", size: str = "K\x05\x85", stride: str = "K\x01\x85", n: str = "Kd") -> bytes:
    """A table {'a': a tensor of float32s in storage 0 of 100 values}, with other numbers."""
    storage = f"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu{n}tQ"
    call = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}{size}{stride}\x89}}tR"
    return f"\x80\x02}}X\x01\x00\x00\x00a{call}s.".encode("latin-1")


def test_a_tensor(tmp_path: Path) -> None:
    (value,) = read_pytorch(write_zip(tmp_path / "x.pt", tensor())).values()
    assert value.shape == (5,)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"offset": "K\x60"}, "is not inside storage 0"),
        ({"size": "K\x65\x85"}, "is not inside storage 0"),
        ({"stride": "K\x32\x85"}, "is not inside storage 0"),
        ({"stride": "J\xff\xff\xff\xff\x85"}, "has no proper shape"),
        ({"offset": "J\xff\xff\xff\xff"}, "has no proper shape"),
        ({"size": "\x8a\x08" + "\xff" * 7 + "\x7f\x85", "stride": "K\x00\x85"}, "has no proper shape"),
        ({"size": "K\x05K\x05\x86"}, "has no proper shape"),
        ({"size": "(" + "K\x01" * 40 + "t", "stride": "(" + "K\x01" * 40 + "t"}, "has no proper shape"),
        ({"size": "]"}, "has no proper shape"),
        ({"size": "K\x7f\x85", "stride": "K\x00\x85"}, "is not inside storage 0"),  # more values than the storage has
        ({"n": "K\x63"}, "storage '0' is not there with 99 values"),
        ({"n": "\x8a\x08" + "\xff" * 7 + "\x7f"}, "is no storage that pygpt knows"),
        ({"n": "\x88"}, "is no storage that pygpt knows"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_pytorch(write_zip(tmp_path / "x.pt", tensor(**changes)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 3000 + b"a" * 2999 + b"s.", "nested deeper than any model's"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "nested deeper"),  # a table inside itself
        (b"\x80\x02}X\x01\x00\x00\x00aNQs.", "is no storage that pygpt knows"),
        (b"\x80\x02}X\x01\x00\x00\x00actorch\nFloatStorage\ns.", "outside of a tensor"),
        (b"\x80\x02}X\x01\x00\x00\x00actorch\nFloatStorage\n)Rs.", "calls torch.FloatStorage with other arguments"),
    ],
)
def test_tables_that_are_no_models(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_pytorch(write_zip(tmp_path / "x.pt", data))


def test_a_table_that_would_grow_without_end(tmp_path: Path) -> None:
    """Each of 24 lists holds the one before twice: 2^24 values if each were made anew."""
    body = b"\x80\x02]q\x010" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) + b"0" for i in range(1, 25)
    )
    data = body + b"}X\x01\x00\x00\x00ah\x19s."
    assert list(read_pytorch(write_zip(tmp_path / "x.pt", data))) == ["a"]


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=500)
def test_any_bytes(data: bytes) -> None:
    try:
        unpickle(b"\x80\x02" + data, "file", ALLOWED)
    except CheckpointError as error:
        assert str(error).startswith("file: the pickle")  # noqa: PT017
