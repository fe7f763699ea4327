"""Task files: which ones a name stands for, and the examples in them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pygpt._json import parse_table, shown
from pygpt.errors import PygptError
from pygpt.harness.examples import DOCUMENT, Document, Example, Form, Row, form_of, read_row

_FILES = {"wikitext2": "wikitext2_test.txt", "xquad": "xquad.en.json"}  # of tasks whose file has another name
_SUFFIXES = {  # what lm-evaluation-harness's own tasks put between these files' queries and the answers
    "arc_easy": "\nAnswer:",
    "arc_challenge": "\nAnswer:",
    "boolq": "\nAnswer:",
    "piqa": "Answer:",
}
_PAGES = re.compile(r"^(?= = [^=\n]+ = ?$)", re.M)  # a title of WikiText, before which a document begins


class _FileError(PygptError):
    """What `parse_table` raises here, and nobody else sees."""


def find(task: str | os.PathLike[str], data: Path | None) -> list[Path]:
    """The files of a task: itself, if it is one; else NAME.jsonl, .json or .txt in the folder `data`, or all .jsonl of
    its folder NAME. ValueError: there is none, and what there is instead."""
    path = Path(task)
    name = os.fspath(task)
    if path.is_file() and path.suffix in (".jsonl", ".json", ".txt"):
        return [path]
    if data is None:
        if path.is_file():
            raise ValueError(f"{name} is no task file, whose name ends in .jsonl, .json or .txt")
        raise ValueError(f"the task {name!r} is no file, and no folder of task files (data) was given to find it in")
    if not data.is_dir():
        raise ValueError(f"the folder of task files {data} does not exist")
    candidates = [data / _FILES.get(name, f"{name}.jsonl"), data / f"{name}.json", data / f"{name}.txt"]
    found = next(([file] for file in candidates if file.is_file()), None) or sorted((data / name).glob("*.jsonl"))
    if not found:
        there = sorted({*(p.stem for p in data.glob("*.jsonl")), *(p.parent.name for p in data.glob("*/*.jsonl"))})
        raise ValueError(
            f"no task {name!r} in {data}: looked for {', '.join(c.name for c in candidates)} and {name}/*.jsonl; "
            f"there are {', '.join([*there, *(n for n, f in _FILES.items() if (data / f).is_file())]) or 'none'}"
        )
    return found


def read(task: str, files: list[Path], limit: int | None) -> list[Example]:
    """The examples of a task's files, the first `limit` of each. ValueError, which names file and line: a line that is
    no JSON table, a column that is missing or holds another kind of value, no examples at all. OSError."""
    found: list[tuple[Form, Example]] = []
    suffix = _SUFFIXES.get(Path(task).stem, "")
    for file in files:
        examples = [*islice(_examples(file, suffix), limit)]
        if not examples:
            raise ValueError(f"{file}: holds no examples")
        found += examples
    if len({form for form, _ in found}) > 1:
        raise ValueError(f"the files of the task {task!r} have different forms")
    return [example for _, example in found]


def _examples(file: Path, suffix: str) -> Iterator[tuple[Form, Example]]:
    text = _content(file)
    if file.suffix == ".txt":
        yield from ((DOCUMENT, Document(page)) for page in _PAGES.split(text) if page.strip())
        return
    form: Form | None = None
    for number, row in _squad_rows(file, text) if file.suffix == ".json" else _lines(file, text):
        where = f"{file}:{number}" if file.suffix == ".jsonl" else f"{file}: question {number}"
        try:
            form = form or form_of(row)
            example = read_row(form, row, suffix)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        yield form, dataclasses.replace(example, where=where)


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def _lines(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = parse_table(line, f"{file}:{number}", _FileError)
            except _FileError as error:
                raise ValueError(str(error)) from None
            yield number, row


def _squad_rows(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    """The questions of a file in SQuAD's form, in which XQuAD comes."""
    try:
        questions = [
            {
                "context": paragraph["context"],
                "question": question["question"],
                "answers": [answer["text"] for answer in question["answers"]],
            }
            for article in json.loads(text)["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON: {error}") from None
    except (KeyError, TypeError, IndexError) as error:
        wanted = "data, a list of paragraphs with context and qas, a list of question and answers with text"
        raise ValueError(f"{file}: not in the form of SQuAD, which has {wanted}: {shown(error)}") from None
    yield from enumerate(questions, 1)
