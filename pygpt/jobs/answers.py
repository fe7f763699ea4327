"""The output of a job: one answer a line, in the order in which they came, as
https://platform.openai.com/docs/api-reference/batch/request-output describes it. What is written stays written."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

from pygpt._json import shown
from pygpt.jobs.requests import Item

Record: TypeAlias = dict[str, Any]
"""A line of the output."""

_ID = "batch_req_"
_BEGINNING = f'{{"id": "{_ID}'.encode()


class Response(NamedTuple):
    """What a request was answered, as over HTTP."""

    status_code: int
    request_id: str
    body: dict[str, Any]


def answered(item: Item, response: Response) -> Record:
    """The answer to a request."""
    return {"id": _ID + item.key.hex(), "custom_id": item.custom_id, "response": response._asdict(), "error": None}


def refused(item: Item) -> Record:
    """The answer to a line that is no request; `line` tells it where there is no `custom_id`."""
    error = {"code": "invalid_line", "message": f"line {item.line}: {item.fault}", "line": item.line}
    return {"id": _ID + item.key.hex(), "custom_id": item.custom_id, "response": None, "error": error}


def key_of_record(record: Record) -> bytes:
    """The key of the line that it answers. ValueError and the like for what is no record."""
    key: str = record["id"].removeprefix(_ID)
    return bytes.fromhex(key)


def is_failure(record: Record) -> bool:
    """Whether an answer is an error."""
    response = record["response"]
    return response is None or response["status_code"] != 200


class Answers:
    """A file of answers that this process alone appends to until `close`, or the end of a ``with`` block.

    A half-written line at its end, as a process leaves it that is killed, is cut off when the file is opened.
    """

    def __init__(self, path: Path, remaining: set[bytes], source: Path) -> None:
        """Take the keys of what is answered out of those that `source` asks for. ValueError: another process writes the
        file, or it holds something else, which is then left as it is. OSError: it cannot be opened."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._check_kind()
            self._lock()
            self._end = self._strike(remaining, source)
            os.ftruncate(self._fd, self._end)
            _sync_folder(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Write answers. They are on the disk when it returns; after an OSError the file is as it was before."""
        data = b"".join(_line(record) for record in records)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            message = f"{self.path}: {error.strerror}; what was answered before is kept, and the same command goes on"
            raise OSError(error.errno, message) from error
        self._end += len(data)

    def close(self) -> None:
        """Let other processes write the file."""
        os.close(self._fd)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _check_kind(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):  # a device, a pipe
            raise ValueError(f"{self.path} is no file that keeps answers")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.path}: another process is writing answers to it") from None
        except OSError:  # a file system without locks
            return

    def _strike(self, remaining: set[bytes], source: Path) -> int:
        """Where the last whole line ends."""
        end = 0
        with os.fdopen(os.dup(self._fd), "rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{self.path}: line {number}"
                if not line.endswith(b"\n"):  # the last one
                    # NUL bytes are what some file systems show after the power went.
                    if not line.startswith(_BEGINNING) and not _BEGINNING.startswith(line.rstrip(b"\0")):
                        raise ValueError(f"{where} is no answer of a job: is it another file?")
                    break
                key, custom_id = _named(line, where)
                if key not in remaining and custom_id is not None:
                    raise ValueError(
                        f"{where} answers {shown(custom_id)}, which {source} does not ask for, or asks for once: is it "
                        "the output of another job?"
                    )
                remaining.discard(key)
                end += len(line)
        return end


def _line(record: Record) -> bytes:
    """JSON; half a surrogate pair, which UTF-8 has no bytes for, is escaped as JSON does it."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _named(line: bytes, where: str) -> tuple[bytes, str | None]:
    """The key of an answer and its `custom_id`."""
    try:
        record = json.loads(line)
        return key_of_record(record), record["custom_id"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{where} is no answer of a job: is it another file?") from None


def _sync_folder(folder: Path) -> None:
    """Make the file's name as lasting as what it holds."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
