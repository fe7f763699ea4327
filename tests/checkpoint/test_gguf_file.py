"""GGUF files written byte by byte: every type of value, and every way in which they can be broken."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pygpt import checkpoint
from pygpt.checkpoint.gguf_file import parse
from pygpt.errors import CheckpointError


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def tensor(name: bytes = b"a", dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def field(key: bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def file(fields: list[bytes], infos: list[bytes], size: int, **counts: int) -> bytes:
    head = struct.pack(
        "<4sIQQ", b"GGUF", counts.get("version", 3), counts.get("tensors", len(infos)), counts.get("kv", len(fields))
    )
    body = head + b"".join(fields) + b"".join(infos)
    return body + bytes(-len(body) % 32) + bytes(size)


ARCH = field(b"general.architecture", 8, string(b"llama"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too few for a GGUF file"),
        (b"GGML" + bytes(40), "not a GGUF file: it begins with b'GGML'"),
        (file([], [], 0, version=1), "GGUF version 1; pygpt reads the little-endian versions 2 and 3"),
        (file([], [], 0, version=0x03000000), "GGUF version 50331648"),
        (file([ARCH], [tensor()], 16, tensors=2**62), "announces 4611686018427387904 tensors, more than the rest"),
        (file([ARCH], [tensor()], 16, kv=2**64 - 1), "announces 18446744073709551615 metadata fields"),
        (file([ARCH], [tensor()], 16, kv=5), "metadata"),
        (file([ARCH], [tensor()], 16, tensors=3), "bytes of a tensor's name|dimensions|truncated"),
        (file([field(b"k", 9, struct.pack("<IQ", 8, 2**60))], [], 0), "announces 1152921504606846976 strings in 'k'"),
        (file([field(b"k", 9, struct.pack("<IQ", 5, 2**60))], [], 0), "announces 1152921504606846976 numbers in 'k'"),
        (file([field(b"k", 9, struct.pack("<IQQ", 8, 1, 2**63))], [], 0), "a string in 'k' ends beyond the file"),
        (file([field(b"k", 9, struct.pack("<IQ", 9, 1))], [], 0), "'k' is an array of the unknown type 9"),
        (file([field(b"k", 8, struct.pack("<Q", 2**63))], [], 0), "announces 9223372036854775808 bytes of 'k'"),
        (file([field(b"k", 99, b"")], [], 0), "'k' has the unknown type 99"),
        (file([field(b"\xff", 4, bytes(4))], [], 0), "a metadata key is not UTF-8"),
        (file([ARCH, ARCH], [], 0), "the metadata key 'general.architecture' occurs twice"),
        (file([field(b"general.alignment", 4, struct.pack("<I", 0))], [], 0), "general.alignment is 0"),
        (file([field(b"general.alignment", 4, struct.pack("<I", 48))], [], 0), "general.alignment is 48"),
        (file([], [tensor(kind=99)], 16), "tensor 'a' has the type 99, which is none of F32, F16, Q4_0"),
        (file([], [tensor(kind=16)], 16), "tensor 'a' has the type IQ2_XXS, which is none of F32"),
        (file([], [tensor(kind=2)], 16), r"shape \[4\], but rows of Q4_0 hold a multiple of 32"),
        (file([], [tensor(dims=(0,))], 16), r"has shape \[0\]"),
        (file([], [tensor(dims=())], 16), "has 0 dimensions, not 1 to 4"),
        (file([], [tensor(dims=(1,) * 5)], 16), "has 5 dimensions"),
        (file([], [string(b"a") + struct.pack("<I", 2**32 - 1)], 16), "has 4294967295 dimensions"),
        (file([], [tensor(dims=(2**63, 2**63))], 16), "truncated"),
        (file([], [tensor(dims=(5,))], 16), r"tensor 'a' ends at byte \d+, but the file has \d+: truncated"),
        (file([], [tensor(offset=32)], 16), "truncated"),
        (file([], [tensor(offset=2**63)], 16), "truncated"),
        (file([], [tensor(offset=4)], 20), "begins at byte 4 of the data, not a multiple of 32"),
        (file([], [tensor(), tensor(b"b")], 16), "tensor 'b' begins at byte 0 of the data and overlaps 'a', up to 16"),
        (file([], [tensor(), tensor(offset=32)], 64), "tensor 'a' occurs twice"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(path)
    assert str(path) in str(caught.value)


def test_metadata_values(tmp_path: Path) -> None:
    """Every type of value, as the format's description lists them."""
    fields = [
        field(b"u8", 0, b"\xff"), field(b"i8", 1, b"\xff"), field(b"u16", 2, b"\xff\xff"),
        field(b"i16", 3, b"\xff\xff"), field(b"u32", 4, b"\xff" * 4), field(b"i32", 5, b"\xff" * 4),
        field(b"f32", 6, struct.pack("<f", 1e-5)), field(b"bool", 7, b"\x01"), field(b"str", 8, string(b"\xc3\xa9")),
        field(b"strs", 9, struct.pack("<IQ", 8, 2) + string(b"x") + string(b"")),
        field(b"nums", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
        field(b"u64", 10, b"\xff" * 8), field(b"i64", 11, b"\xff" * 8), field(b"f64", 12, struct.pack("<d", 0.1)),
    ]  # fmt: skip
    (tmp_path / "x.gguf").write_bytes(file(fields, [tensor()], 16, version=2))
    parsed = parse(tmp_path / "x.gguf")
    nums = parsed.metadata.pop("nums")
    assert isinstance(nums, np.ndarray)
    assert nums.tolist() == [1, -2, 3]
    assert parsed.metadata == {
        "u8": 255, "i8": -1, "u16": 65535, "i16": -1, "u32": 2**32 - 1, "i32": -1, "f32": 1e-5, "bool": True,
        "str": "\u00e9", "strs": [b"x", b""], "u64": 2**64 - 1, "i64": -1, "f64": 0.1,
    }  # fmt: skip
    assert parsed.tensors["a"].shape == (4,)
