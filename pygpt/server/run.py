"""The process: a socket, uvicorn, signals."""

from __future__ import annotations

import socket

import uvicorn

from pygpt.server.app import create_app
from pygpt.server.settings import Settings


def run(settings: Settings) -> int:
    """Serve until a signal; the exit status."""
    app = create_app(settings)
    listener = _listen(settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none", server_header=False)
    print(f"pygpt: serving {', '.join(settings.models)} at {_address(listener)}", flush=True)
    uvicorn.Server(config).run([listener])
    return 0


def _listen(settings: Settings) -> socket.socket:
    """OSError: somebody else listens there, or it may not be listened at."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise OSError(f"cannot listen at {where}: {error.strerror or error}") from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
