"""Tables of examples: .csv, .tsv and .jsonl files as records, whose values go by the names of their columns.

A .csv is comma-separated, with quotes as usual; a .tsv is tab-separated, and quotes are plain characters; a .jsonl has
a JSON object a line. The first row of a table, or each object, names the columns. No name may occur twice, and each row
of a table has as many cells as the first one: a cell that is missing would put the others under other names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pygpt._json import parse_table
from pygpt.errors import TrainingError

SUFFIXES = (".csv", ".tsv", ".jsonl")


class Record(NamedTuple):
    """One row of a file."""

    values: dict[str, object]  # by the column's name; in a table all are texts
    place: str  # file and line, for messages


def read_records(path: Path, columns: Sequence[str]) -> list[Record]:
    """The rows of a file that has at least these columns. TrainingError names file, line and column, or the byte that
    is not UTF-8."""
    if path.suffix not in SUFFIXES:
        raise TrainingError(f"{path}: examples are read from {', '.join(SUFFIXES)} files")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: not UTF-8: byte {error.start} is 0x{content[error.start]:02x}") from None
    read = _json_lines if path.suffix == ".jsonl" else _table
    records = [Record(values, f"{path}, line {line}") for line, values in read(path, text, columns)]
    if not records:
        raise TrainingError(f"{path}: no examples")
    return records


def _json_lines(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record = parse_table(line, place, TrainingError)
        _check_columns(place, list(record), columns)
        yield number, record


def _table(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    stream = io.StringIO(text, newline="")
    if path.suffix == ".tsv":
        reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(stream, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        place = f"{path}, line {line}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TrainingError(f"{place}: {error}") from None
        if cells is None:
            return
        if not cells:  # an empty line
            continue
        if header is None:
            header = [name.strip() for name in cells]
            _check_columns(place, header, columns)
            continue
        if len(cells) < len(header):
            missing = header[len(cells)]
            raise TrainingError(f"{place}: no cell for column {missing!r}: {len(cells)} cells, {len(header)} columns")
        if len(cells) > len(header):
            extra = f"{cells[len(header)]!r:.40} stands after the last column, {header[-1]!r}"
            raise TrainingError(f"{place}: {len(cells)} cells, but {len(header)} columns: {extra}")
        yield line, dict(zip(header, cells, strict=True))


def _check_columns(place: str, found: list[str], columns: Sequence[str]) -> None:
    """TrainingError unless the columns are there, and each name once. A column without a name, such as that of row
    numbers, is like any other that nobody asks for."""
    for name in found:
        if name and found.count(name) > 1:
            raise TrainingError(f"{place}: the column {name!r} occurs twice")
    for name in columns:
        if name not in found:
            names = ", ".join(map(repr, found)) or "none"
            raise TrainingError(f"{place}: no column {name!r}: needed are {', '.join(columns)}; there are {names}")
