"""safetensors files: what they hold, and every way in which they can be broken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pygpt.checkpoint.safetensors import read_file, read_sharded
from pygpt.errors import CheckpointError

Pack = Callable[..., bytes]


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_reads_what_the_format_library_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((3, 4)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float16),
        "c": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "ints": np.arange(3),
    }
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "np"})
    stored = read_file(tmp_path / "x.safetensors")
    assert set(stored) == set(arrays)
    for name in ("a", "b", "c", "empty"):
        got = stored[name].read()
        assert got.dtype == arrays[name].dtype
        np.testing.assert_array_equal(got, arrays[name])
        assert not got.flags.writeable or got.size == 0
    assert (stored["ints"].dtype, stored["ints"].kind) == ("I64", None)


def test_unaligned_data_is_aligned_for_the_reader(tmp_path: Path, packed: Pack) -> None:
    values = np.arange(4, dtype=np.float32)
    header = json.dumps({"a": entry(shape=[4], offsets=[0, 16])}).encode()
    header += b" " * (1 - len(header) % 2)  # an odd length
    (tmp_path / "x.safetensors").write_bytes(packed(header, values.tobytes()))
    got = read_file(tmp_path / "x.safetensors")["a"].read()
    assert got.flags.aligned
    np.testing.assert_array_equal(got, values)


GOOD = {"a": entry(), "b": entry(offsets=(8, 16))}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        (
            {"a": entry(), "b": entry(offsets=(4, 12))},
            12,
            "invalid offset for tensor `b`",
        ),
        ({"a": entry(), "b": entry(offsets=(0, 8))}, 8, "invalid offset for tensor"),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, 20, "invalid offset for tensor `b`"),
        ({"a": entry(offsets=(4, 12))}, 12, "invalid offset for tensor `a`"),
        (GOOD, 24, r"not a whole safetensors file, \d+ bytes: .*not fully covered"),
        (GOOD, 12, "not fully covered"),
        ({}, 4, "not fully covered"),
        ({"a": entry(shape=[3])}, 8, "invalid shape, data type, or offset"),
        ({"a": entry(dtype="F16")}, 8, "invalid shape, data type, or offset"),
        ({"a": entry(dtype="F31")}, 8, "unknown variant `F31`"),
        ({"a": entry(dtype=None)}, 8, "invalid type: null"),
        ({"a": entry(dtype=["F32"])}, 8, "invalid type: sequence"),
        ({"a": entry(shape=[-2])}, 8, "integer `-2`, expected"),
        ({"a": entry(shape=[2.0])}, 8, "floating point `2.0`, expected"),
        ({"a": entry(shape=[True, 2])}, 8, "boolean `true`, expected"),
        ({"a": entry(shape=2)}, 8, "integer `2`, expected a sequence"),
        ({"a": entry(shape=[1] * 33, offsets=[0, 4])}, 4, "a shape that NumPy cannot hold"),
        ({"a": entry(shape=[2**60])}, 8, "overflow|invalid shape"),
        ({"a": entry(shape=[0, 10**30], offsets=[0, 0])}, 0, "expected usize"),
        ({"a": entry(shape=[2**40, 2**40])}, 8, "overflow"),
        ({"a": entry(offsets=[8, 0])}, 8, "invalid offset"),
        ({"a": entry(offsets=[0, -8])}, 8, "integer `-8`, expected"),
        ({"a": entry(offsets=[0, 8, 16])}, 8, "length 3"),
        ({"a": entry(offsets=[0, 10**400])}, 8, "out of range"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "missing field `data_offsets`"),
        ({"a": entry() | {"more": 1}}, 8, "tensor 'a': expected the keys data_offsets, dtype, shape"),
        ({"a": 3}, 8, "integer `3`, expected"),
        ([], 0, "invalid JSON in header"),
        (b"{", 0, "invalid JSON in header"),
        (b"\xff\xfe", 0, "invalid UTF-8 in header"),
        (b"[" * 100_000, 0, "invalid JSON in header"),
        (b'{"a": 1, "a": 2}', 0, "invalid type: integer"),
        (
            b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
            0,
            "duplicate field `dtype`",
        ),
        (
            b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
            b'"a": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}',
            8,
            "the header: not valid JSON: the key 'a' occurs twice, with two values",
        ),
        ({"a": entry(shape=[0, 2**62], offsets=[0, 0])}, 0, "a shape that NumPy cannot hold"),
        ({"a": entry(dtype="F4", shape=[3], offsets=[0, 2])}, 2, "byte boundary|invalid shape|unknown variant"),
        (b"{" + b'"a":{' * 100_000, 0, "invalid JSON in header"),
        ({"__metadata__": {"format": 3}}, 0, "integer `3`, expected a string"),
    ],
)
def test_broken_headers(tmp_path: Path, packed: Pack, header: Any, size: int, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(header, bytes(size)))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [3, 17, 2**20, 100_000_001, 2**63, 2**64 - 1])
def test_an_oversized_header(tmp_path: Path, packed: Pack, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(b"{}", b"", length=length))
    with pytest.raises(CheckpointError, match=r"not a whole safetensors file, 10 bytes: .*header"):
        read_file(path)


def test_a_header_over_the_limit_in_a_file_that_has_it(tmp_path: Path, packed: Pack) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(b"{}", b"", length=100_000_001))
    os.truncate(path, 100_000_100)  # a sparse file: no disk, no memory
    with pytest.raises(CheckpointError, match="header too large"):
        read_file(path)


def test_every_truncation_is_noticed(tmp_path: Path, packed: Pack) -> None:
    whole = packed(GOOD, bytes(16))
    path = tmp_path / "x.safetensors"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_file(path)
    path.write_bytes(whole)
    assert set(read_file(path)) == {"a", "b"}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 200), value=st.binary(min_size=1, max_size=4))
def test_spoilt_bytes_never_escape_as_another_error(tmp_path: Path, packed: Pack, where: int, value: bytes) -> None:
    whole = bytearray(packed(GOOD, bytes(16)))
    whole[where : where + len(value)] = value
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole)
    try:
        for stored in read_file(path).values():
            if stored.kind is not None:
                stored.read()
    except CheckpointError:
        pass


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_file(tmp_path / "x.safetensors")


def test_a_file_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones(4096, np.float32), "b": np.ones(4096, np.float32)}, path)
    stored = read_file(path)
    os.truncate(path, path.stat().st_size - 1)
    stored["a"].read()
    with pytest.raises(CheckpointError, match=r"tensor 'b' ends at byte \d+, but the file has"):
        stored["b"].read()


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses to delete an open file")
def test_a_file_deleted_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones(4096, np.float32)}, path)
    stored = read_file(path)
    path.unlink()
    assert stored["a"].read().sum() == 4096


# Sharded checkpoints


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "one.safetensors")
    save_file({"b": np.ones(3, np.float32)}, tmp_path / "two.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    return tmp_path / "model.safetensors.index.json"


def write_index(folder: Path, weight_map: object) -> None:
    document = {"metadata": {"total_size": 20}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")


def test_shards(shards: Path) -> None:
    assert {name: s.shape for name, s in read_sharded(shards).items()} == {"a": (2,), "b": (3,)}


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "one.safetensors", "b": "three.safetensors"}, "the shard 'three.safetensors' is not there"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "puts the tensor 'b' in 'one.safetensors'"),
        ({"a": "two.safetensors", "b": "one.safetensors"}, "holds the tensor 'a', which the index .* in 'two.safe"),
        ({"a": "one.safetensors", "c": "two.safetensors"}, "holds the tensor 'b', which the index .* puts nowhere"),
        ({"a": "../one.safetensors"}, "not the name of a file in the same folder"),
        ({"a": "/etc/passwd"}, "not the name of a file in the same folder"),
        ({"a": ".."}, "not the name of a file in the same folder"),
        ({"a": ""}, "not the name of a file in the same folder"),
        ({}, "expected a table 'weight_map'"),
        ({"a": 3}, "expected a table 'weight_map'"),
        (["a"], "expected a table 'weight_map'"),
    ],
)
def test_broken_index(shards: Path, weight_map: object, message: str) -> None:
    write_index(shards.parent, weight_map)
    with pytest.raises(CheckpointError, match=message):
        read_sharded(shards)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_an_index_that_is_not_a_table(shards: Path, text: str) -> None:
    shards.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json: (not valid JSON|not a JSON table)"):
        read_sharded(shards)
