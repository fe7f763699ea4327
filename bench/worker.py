"""An engine in a process of its own, which a benchmark asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from typing import Any

from machine import Others

SETTLE = 0.3  # seconds between two engines, in which the threads of the one before stop spinning
LAST_LINES = 6  # of what a dead process wrote to standard error


class WorkerError(Exception):
    """An engine's process is gone; the message says how it ended and what it said last."""


class Worker:
    """Writes a JSON object when it is ready; then one JSON object a line in, one out."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], settle: float = SETTLE) -> None:
        """`environment` is added to this process's own; `settle` seconds pass before a command."""
        self.name, self._settle = name, settle
        begin = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the one who asks
        )
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise
        self.ready["process"] = time.perf_counter() - begin

    def ask(self, **command: Any) -> dict[str, Any]:
        """Run one command; adds the shares of CPU time that others took meanwhile."""
        assert self.process.stdin is not None
        time.sleep(self._settle)
        others = Others(self.process.pid)
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerError(self._death()) from None
        return self._answer() | others.shares()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise WorkerError(self._death())
        return dict(json.loads(line))

    def _death(self) -> str:
        status = self.process.wait()
        end = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        said = "; its last lines:" + "".join(f"\n    {line}" for line in lines) if lines else " without a word"
        return f"{self.name} {end}{said}"
