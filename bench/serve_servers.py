"""The servers that serve.py measures, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START = 60.0  # seconds a server may take


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def command(kind: str, program: str, model: Path, port: int, threads: int, n_clients: int, n_ctx: int) -> list[str]:
    """The command line of a server: pygpt's, or llama.cpp's with a slot for each client, to batch them all."""
    if kind == "pygpt":
        return [program or str(Path(sys.executable).with_name("pygpt")), "serve", f"m={model}", "--port", str(port),
                "--threads", str(threads)]  # fmt: skip
    if kind == "llamacpp":
        return [program, "-m", str(model), "--port", str(port), "--host", "127.0.0.1", "-t", str(threads), "-tb",
                str(threads), "-np", str(n_clients), "-c", str(n_ctx * n_clients), "--no-webui"]  # fmt: skip
    raise SystemExit(f"there is no server {kind!r}: pygpt[=PROGRAM], llamacpp=PROGRAM[=MODEL]")


class Server:
    """A running server; leaving it ends it, if it was started here."""

    def __init__(self, name: str, model: Path, threads: int, n_clients: int, n_ctx: int = 1024) -> None:
        """name: pygpt[=PROGRAM] or llamacpp=PROGRAM, and =MODEL where it is to serve another file; or any name and
        =http://127.0.0.1:PORT of a server that runs."""
        kind, program, own = (*name.split("="), "", "")[:3]
        model = Path(own) if own else model
        self.name = f"{kind} {model.name}" if own else kind
        self.process: subprocess.Popen[bytes] | None = None
        if program.startswith("http"):
            self.port = int(program.rpartition(":")[2])
            return
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self.process = subprocess.Popen(
            command(kind, program, model, self.port, threads, n_clients, n_ctx), stdout=self._log, stderr=self._log
        )
        begin = time.monotonic()
        while not self._is_healthy():
            if self.process.poll() is not None or time.monotonic() > begin + START:
                self.close()
                raise SystemExit(f"{name} does not start: {self.last_words()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of its process; of this one where it was not started here."""
        return os.getpid() if self.process is None else self.process.pid

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-1500:].decode(errors="replace")

    def memory(self) -> int:
        """Resident bytes that are not of a file: what grows when memory is lost."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    def settle(self) -> None:
        """Wait until it has done with those who hung up: llama-server goes on for seconds."""
        for _ in range(100):
            before = self._cpu_seconds()
            time.sleep(0.1)
            if self._cpu_seconds() - before <= 0.01:
                return

    def _cpu_seconds(self) -> float:
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
