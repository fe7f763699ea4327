"""The figures of a run: one JSON object a line, a line a step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygpt._json import parse_table
from pygpt.errors import TrainingError

Record = dict[str, float | int | str]
"""step; from the first step on: loss, learning_rate, grad_norm (before clipping), tokens (so far), tokens_per_second;
always: seconds (so far); at an evaluation: validation_loss and what else the objective measures; where the model wrote
a text: sample. Losses are means in nats."""


class Metrics:
    """The file, open for appending, and the losses in it."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Keep what is there up to last_step: a run that goes on from a state writes what follows it anew."""
        self.path = path
        self.losses: dict[int, float] = {}
        self.validation_losses: dict[int, float] = {}
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                os.ftruncate(self._fd, self._read(last_step))
                os.lseek(self._fd, 0, os.SEEK_END)
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            raise TrainingError(f"{path}: cannot be opened: {error.strerror or error}") from error

    def _read(self, last_step: int) -> int:
        """Take in the lines up to last_step; how many bytes they are."""
        size = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                record: dict[str, Any] = parse_table(line, str(self.path), TrainingError)
                step = record["step"]
            except (TrainingError, KeyError):  # cut off when the process was killed
                break
            if not isinstance(step, int) or step > last_step or not line.endswith(b"\n"):
                break
            size += len(line)
            self._remember(record)
        return size

    def _remember(self, record: Mapping[str, float | int | str]) -> None:
        for name, series in (("loss", self.losses), ("validation_loss", self.validation_losses)):
            if name in record:
                series[int(record["step"])] = float(record[name])

    def append(self, record: Record) -> None:
        """Add a line. TrainingError where it cannot be written."""
        line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
        try:
            while line:  # a disk that is almost full takes a part
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self._remember(record)

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
