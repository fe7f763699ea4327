"""Strings behind their lengths, as GGUF's arrays have them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygpt import _core


def packed(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(s)) + s for s in strings)


@given(st.lists(st.binary(max_size=20)), st.binary(max_size=5), st.binary(max_size=5))
def test_they_come_apart(strings: list[bytes], before: bytes, after: bytes) -> None:
    data = before + packed(strings) + after
    assert _core.split_strings(data, len(before), len(strings)) == (strings, len(data) - len(after))


@pytest.mark.parametrize(
    ("data", "begin", "count"),
    [
        (b"", 0, 1),
        (b"", 1, 0),
        (packed([b"ab"])[:-1], 0, 1),
        (packed([b"ab"]) + b"\0" * 7, 0, 2),
        (struct.pack("<Q", 2**64 - 1) + b"ab", 0, 1),
        (packed([b"a"] * 3), 0, 2**62),
    ],
)
def test_they_end_inside(data: bytes, begin: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"cut short|fewer bytes"):
        _core.split_strings(data, begin, count)


def test_bytes_that_do_not_lie_side_by_side_are_refused() -> None:
    with pytest.raises(ValueError, match="data must be contiguous"):
        _core.split_strings(memoryview(bytes(64))[::-1], 0, 1)  # type: ignore[arg-type]
