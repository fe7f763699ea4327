"""The one reader of JSON files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pygpt._json import read_table, shown
from pygpt.errors import CheckpointError, TokenizerError


def read(path: Path, data: bytes) -> dict[str, object]:
    path.write_bytes(data)
    return read_table(path, CheckpointError)


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert read(path, b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert read(path, b'\xef\xbb\xbf{"a": 1}') == {"a": 1}  # a byte order mark, as Windows' editors write it
    assert read(path, b'{"a": 1, "a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON: Expecting value"),
        (b"{", "not valid JSON: Expecting property name"),
        (b"[" * 100_000, "not valid JSON: maximum recursion depth"),
        (b'{"a": ' * 100_000, "not valid JSON: maximum recursion depth"),
        (b"\xff", "not valid JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not valid JSON: Exceeds the limit"),
        (b'{"a": 1, "a": 2}', "not valid JSON: the key 'a' occurs twice, with two values"),
        (b'{"x": {"a": [1], "a": [2]}}', "the key 'a' occurs twice"),
        (b"[]", "not a JSON table"),
        (b"null", "not a JSON table"),
    ],
)
def test_what_is_no_table(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path, data)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    for name, reason in (("folder", "Is a directory"), ("dangling", "No such file"), ("missing", "No such file")):
        with pytest.raises(TokenizerError, match=f"{name}.json: cannot be read: {reason}"):
            read_table(tmp_path / f"{name}.json", TokenizerError)


def test_values_are_shown_briefly() -> None:
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**5)), {i: i for i in range(10**5)}, 10**4000, [["a"] * 99] * 99):
        assert len(shown(value)) < 2500
    assert shown("gelu_new") == "'gelu_new'"
