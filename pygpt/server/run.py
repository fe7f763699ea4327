"""The process: a socket, uvicorn, signals."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from pygpt.server import log, trace
from pygpt.server.app import create_app
from pygpt.server.call import Service
from pygpt.server.errors import ApiError
from pygpt.server.models import Models
from pygpt.server.protocol import connections
from pygpt.server.settings import Settings

_BACKLOG = 2048
_GARBAGE = 50_000, 20, 50  # Python's own thresholds make of a body with a million lists a pause ten times as long
_SPARE_FILES = 256  # besides connections
_LAST_WORDS = 2  # seconds to tell clients that their answers were cut off


def run(settings: Settings) -> int:
    """Serve until a signal; the exit status: 0 after SIGTERM, 130 after Ctrl-C. A second signal ends the process as it
    would any other.

    OSError: the address cannot be listened at. CheckpointError: a model that is not there, or cannot be loaded.
    """
    log.configure(settings.log_format, settings.log_level)
    if settings.trace:
        trace.export()
    _allow_files(settings.max_connections + _SPARE_FILES)
    app = create_app(settings)
    listener = _listen(settings)
    config = uvicorn.Config(
        app,
        http=connections(settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    server = _Server(config, app, settings.grace, _address(listener))
    try:
        server.run([listener])
    finally:
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)
    return 128 + signal.SIGINT if server.first_signal == signal.SIGINT else 0


class _Server(uvicorn.Server):
    """Takes no new requests after the first signal, and ends when those that run have ended or the grace is over."""

    def __init__(self, config: uvicorn.Config, app: Starlette, grace: float, address: str) -> None:
        super().__init__(config)
        self.first_signal: int | None = None
        self._app, self._grace, self._address = app, grace, address
        self._deadline = 0.0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self.handle_exit) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.first_signal is not None or not self.started:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.first_signal = sig
        self._deadline = time.monotonic() + self._grace
        self._service.is_draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        models: Models = self._app.state.models
        try:
            models.release(await models.acquire(models.names[0]))  # here, where its error reaches the caller
        except ApiError as error:
            await models.close()
            raise error.__cause__ or error from None
        gc.freeze()  # what is there stays
        gc.set_threshold(*_GARBAGE)
        await super().startup(sockets)
        print(f"pygpt: serving {', '.join(models.names)} at {self._address}", flush=True)

    async def on_tick(self, counter: int) -> bool:
        if self.first_signal is not None and not self.should_exit:
            running = self._service.calls
            if running and time.monotonic() >= self._deadline:
                log.server.warning("%d requests are cut off: %g seconds are over", len(running), self._grace)
                for call in list(running):
                    call.stop("shutdown")
                self.should_exit = True
            self.should_exit = self.should_exit or not running
        return await super().on_tick(counter)

    @property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service


def _listen(settings: Settings) -> socket.socket:
    """OSError: somebody else listens there, or it may not be listened at."""
    try:
        if settings.uds is not None:
            return _listen_locally(settings.uds)
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # where it would let two servers have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        where = settings.uds or f"{settings.host}, port {settings.port}"
        raise OSError(f"cannot listen at {where}: {error.strerror or error}") from error
    return listener


def _listen_locally(path: Path) -> socket.socket:
    """A socket of a process that is gone is no obstacle; a file, or a server that answers, is."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(os.fspath(path)):
                path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _address(listener: socket.socket) -> str:
    if listener.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_files(n: int) -> None:
    """Raise the process's own limit of open files, each connection being one, as far as the system lets it."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
