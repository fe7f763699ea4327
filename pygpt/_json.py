"""JSON files from elsewhere: one reader, one wording of errors."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path

from pygpt.errors import PygptError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def shown(value: object) -> str:
    """The repr of a value from a file, for a message: short, however long or deep the value is."""
    return _REPR.repr(value)


def read_table(path: Path, error: type[PygptError]) -> dict[str, object]:
    """A file that holds one JSON table. `error` names the file where it cannot be read or holds something else.

    A table that gives one key two values is refused: which of them counts is any reader's guess. A byte order mark is
    passed over.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    return parse_table(data, str(path), error)


def parse_table(data: bytes | str, where: str, error: type[PygptError]) -> dict[str, object]:
    """What `read_table` does, with bytes that were read; `where` stands in the messages instead of the path."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=_table)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON: {problem}") from problem
    if not isinstance(values, dict):
        raise error(f"{where}: not a JSON table")
    return values


def _table(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        for key, value in pairs:
            if table[key] != value:
                raise ValueError(f"the key {shown(key)} occurs twice, with two values")
    return table
