"""An engine in a process of its own, which a benchmark asks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from machine import Others

SETTLE = 0.3  # seconds between two engines, in which the threads of the one before stop spinning


class Worker:
    """Writes a JSON object when it is ready; then one JSON object a line in, one out."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """`environment` is added to this process's own."""
        self.name = name
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.ready = self._answer()
        self.ready["process"] = time.perf_counter() - begin

    def ask(self, **command: Any) -> dict[str, Any]:
        """Run one command; adds the shares of CPU time that others took meanwhile."""
        assert self.process.stdin is not None
        time.sleep(SETTLE)
        others = Others(self.process.pid)
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self._answer() | others.shares()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed; its message stands above")
        return dict(json.loads(line))
