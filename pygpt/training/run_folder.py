"""The folder of a run: its settings, its lock, and the names of its files.

run.json             all settings; written first
data/, data-2/ ...   the texts as tokens (`pygpt.training.data`)
state.safetensors    what the run goes on from (`pygpt.training.state`)
metrics.jsonl        the figures of each step (`pygpt.training.metrics`)
loss.png             the loss curve
best/, last/         checkpoints: of the lowest validation loss so far, and of the last evaluation
lock                 held by the process that trains
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from pygpt._json import read_table
from pygpt.errors import TrainingError
from pygpt.training.state import replace_file

_SETTINGS, _LOCK = "run.json", "lock"
_BEFORE, _ADDED = "recipes_before", "added"  # of a run that was extended
_VERSION = 1


class RunFolder:
    """A run's folder, which this process alone trains in until `close`, or the end of a ``with`` block."""

    def __init__(self, path: Path, settings: dict[str, Any], lock: int, is_new: bool = False) -> None:
        """Private: use `create` or `open`."""
        self.path = path
        self.settings = settings
        """What run.json holds."""
        self._lock, self._is_new = lock, is_new

    @classmethod
    def create(cls, path: Path, settings: dict[str, Any]) -> RunFolder:
        """Begin a run in a new or empty folder. TrainingError for any other, before anything in it is touched."""
        is_new = not path.exists()
        try:
            _check_empty(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{path}: cannot be made: {error.strerror or error}") from error
        lock = _lock(path)
        try:
            _check_empty(path)  # now that no other process can begin one here
            run = cls(path, {"version": _VERSION}, lock, is_new)
            run.update(settings)
        except BaseException:
            os.close(lock)
            raise
        return run

    @classmethod
    def open(cls, path: Path, *kinds: str) -> RunFolder:
        """Go on with a run of one of some kinds, its setting "kind". TrainingError where there is none, and where
        another process trains in it."""
        if not (path / _SETTINGS).is_file():
            raise TrainingError(f"{path}: holds no run to go on with: there is no {_SETTINGS}")
        lock = _lock(path)
        try:
            settings = read_table(path / _SETTINGS, TrainingError)
            if settings.get("version") != _VERSION or settings.get("kind") not in kinds:
                raise TrainingError(  # noqa: TRY301
                    f"{path / _SETTINGS}: expected the settings of {' or '.join(kinds)}, version {_VERSION}"
                )
        except BaseException:
            os.close(lock)
            raise
        return cls(path, settings, lock)

    def update(self, values: dict[str, Any]) -> None:
        """Add settings, which JSON must be able to hold, to run.json."""
        settings = self.settings | values
        text = json.dumps(settings, indent=2) + "\n"
        replace_file(self.path / _SETTINGS, lambda partial: _write(partial, text))
        self.settings = settings

    def discard(self) -> None:
        """Take back `create`, with the data prepared since: for a run that could not begin."""
        for folder in (self.data, *self.path.glob("data-*")):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.path / _SETTINGS).unlink(missing_ok=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            if self._is_new:
                self.path.rmdir()

    def extend(self, recipe: dict[str, Any]) -> None:
        """Give the run another recipe with more steps. run.json keeps those before, the first of which is in the
        fingerprint: so the state stays one of this run."""
        self.update({"recipe": recipe, _BEFORE: [*self.settings.get(_BEFORE, []), self.settings["recipe"]]})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings that the run began with."""
        began = {name: value for name, value in self.settings.items() if name not in (_BEFORE, _ADDED)}
        if before := self.settings.get(_BEFORE):
            began["recipe"] = before[0]
        return hashlib.sha256(json.dumps(began, sort_keys=True).encode()).hexdigest()

    @property
    def data(self) -> Path:
        return self.path / "data"

    def data_of(self, number: int) -> Path:
        """The folder of a data set, counted from 0."""
        return self.path / f"data-{number + 1}" if number else self.data

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def plot(self) -> Path:
        return self.path / "loss.png"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def last(self) -> Path:
        return self.path / "last"

    def close(self) -> None:
        """Let other processes in."""
        os.close(self._lock)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check_empty(path: Path) -> None:
    if (path / _SETTINGS).exists():
        raise TrainingError(f"{path}: holds a run already: go on with it (--resume), or take another folder")
    mine = {_LOCK, f".{_SETTINGS}.partial"}  # what is there before run.json, if the process is killed
    if path.is_dir() and (other := sorted({p.name for p in path.iterdir()} - mine)):
        raise TrainingError(f"{path}: is not empty (it has {other[0]}): a run needs a folder of its own")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _lock(folder: Path) -> int:
    """The open lock file. The system lets go of the lock when the process ends, however that happens."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise TrainingError(f"{folder / _LOCK}: cannot be opened: {error.strerror or error}") from error
    try:
        import fcntl
    except ImportError:  # Windows
        return fd
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise TrainingError(f"{folder}: another process is training here") from None
    except OSError:  # a file system without locks
        return fd
    return fd
