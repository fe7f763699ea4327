"""A server in the process of the test, its application being asked through httpx; and as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import httpx
import pytest

from pygpt.server.app import create_app
from pygpt.server.settings import Settings

_Result = TypeVar("_Result")


@asynccontextmanager
async def client_of(settings: Settings, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", **options) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Runs ``async def use(client)`` with a client of a server of "tiny", or of the settings that are given."""

    def run(
        use: Callable[[httpx.AsyncClient], Awaitable[_Result]], *models: str, headers: Any = None, **settings: Any
    ) -> _Result:
        async def main() -> _Result:
            made = Settings(models=models or ("tiny",), **{"threads": 1, **settings})
            async with client_of(made, headers=headers) as client:
                return await use(client)

        return asyncio.run(main())

    return run


class Server(NamedTuple):
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20)

    def talk(self, data: bytes) -> bytes:
        """What comes back until the server closes the connection."""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data)
            return self.rest_of(connection)
        return b""

    def rest_of(self, connection: socket.socket) -> bytes:
        """What comes until the server closes a connection."""
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)

    def stop(self, kind: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit status and what stood on standard error."""
        self.process.send_signal(kind)
        return self.process.wait(timeout=30), self.log.read_text()


Start: TypeAlias = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def start(elsewhere: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Runs `pygpt serve` with options, at a free port."""

    @contextlib.contextmanager
    def run(
        *options: object, models: tuple[str, ...] = ("tiny",), env: dict[str, str] | None = None
    ) -> Iterator[Server]:
        command = [sys.executable, "-m", "pygpt", "serve", *models, "--threads", "1", "--port", "0", *map(str, options)]
        log = tmp_path_factory.mktemp("log") / "stderr"  # a pipe that nobody reads would be full at some time
        environment = {**elsewhere["env"], **(env or {})}
        with log.open("w") as opened:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=opened, text=True, cwd=elsewhere["cwd"], env=environment
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"at http://\[?([^\]]+)\]?:(\d+)$", line.strip())
            yield Server(process, log, found[1] if found else line.strip(), int(found[2]) if found else 0)
        finally:
            process.kill()
            process.communicate(timeout=30)

    return run
