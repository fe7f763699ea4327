"""An ASGI application that is asked within the process, without a socket: a job, and a Ray replica, run the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_GRACE = 10.0  # seconds that an application has to notice that its client went away


def post_scope(path: str, length: int) -> Scope:
    """The scope (https://asgi.readthedocs.io/en/latest/specs/www.html) of a JSON request of so many bytes."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(length).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
    }


async def respond(app: App, scope: Scope, body: bytes) -> AsyncIterator[Message]:
    """The messages that an application sends to a request, as they come. Closing the iterator before its end is a
    client that goes away."""
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def answer() -> None:
        try:
            await app(scope, receive, sent.put)
        finally:
            await sent.put(None)

    task = asyncio.create_task(answer())
    try:
        while (message := await sent.get()) is not None:
            yield message
        await task
    finally:
        gone.set()
        if not task.done():
            await asyncio.wait({task}, timeout=_GRACE)
            task.cancel()


@contextlib.asynccontextmanager
async def running(app: App) -> AsyncIterator[None]:
    """An application between its startup and its shutdown. Raises what made it fail to start."""
    events: asyncio.Queue[Message] = asyncio.Queue()
    sent: asyncio.Queue[Message] = asyncio.Queue()

    async def lifespan() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, events.get, sent.put)

    task = asyncio.create_task(lifespan())
    try:
        await events.put({"type": "lifespan.startup"})
        await _expect("startup", sent, task)
        yield
        await events.put({"type": "lifespan.shutdown"})
        await _expect("shutdown", sent, task)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _expect(event: str, sent: asyncio.Queue[Message], task: asyncio.Task[None]) -> None:
    first = asyncio.create_task(sent.get())
    await asyncio.wait({first, task}, return_when=asyncio.FIRST_COMPLETED)
    if first.done() and first.result()["type"] == f"lifespan.{event}.complete":
        return
    first.cancel()
    await asyncio.wait({task}, timeout=_GRACE)
    if task.done() and (error := task.exception()) is not None:
        raise error.__cause__ or error
    raise RuntimeError(f"the application failed at its {event}")
