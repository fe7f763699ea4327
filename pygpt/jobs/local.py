"""The requests of a job answered in this process, by the server's own application: many at a time."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from pygpt.jobs.answers import Record, Response, answered
from pygpt.jobs.asgi import App, post_scope, respond, running
from pygpt.jobs.requests import Item

_BUSY = {429, 503}  # statuses of a server that has no room now
_PAUSE = 0.1  # seconds until it is asked again


def answer_with(make_app: Callable[[], App], n_together: int) -> Callable[[Iterator[Item]], Iterator[Sequence[Record]]]:
    """A `Work` that asks an application, which it makes when there is something to ask, so many requests at a time."""

    def work(items: Iterator[Item]) -> Iterator[Sequence[Record]]:
        loop = asyncio.new_event_loop()
        tasks: set[asyncio.Task[Record]] = set()
        stack = AsyncExitStack()
        try:
            app = make_app()
            loop.run_until_complete(stack.enter_async_context(running(app)))
            while True:
                for item in itertools.islice(items, n_together - len(tasks)):
                    tasks.add(loop.create_task(ask(app, item)))
                if not tasks:
                    break
                done, tasks = loop.run_until_complete(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
                yield [task.result() for task in done]
        finally:
            loop.run_until_complete(_stop(tasks))
            loop.run_until_complete(stack.aclose())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return work


async def _stop(tasks: set[asyncio.Task[Record]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ask(app: App, item: Item) -> Record:
    """The answer of an application to one request."""
    body = json.dumps(item.body).encode()
    while True:
        status, request_id, content = 0, "", b""
        async for message in respond(app, post_scope(item.url, len(body)), body):
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {name.lower(): value for name, value in message.get("headers", ())}
                request_id = headers.get(b"x-request-id", b"").decode("latin-1")
            elif message["type"] == "http.response.body":
                content += message.get("body", b"")
        if status not in _BUSY:
            return answered(item, Response(status, request_id, json.loads(content)))
        await asyncio.sleep(_PAUSE)
