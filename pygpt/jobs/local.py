"""The requests of a job answered in this process, by the server's own application: many at a time."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from pygpt.jobs.answers import Record, Response, answered
from pygpt.jobs.asgi import App, post_scope, respond, running
from pygpt.jobs.requests import Item

_BUSY = {429, 503}  # statuses of a server that has no room now
_PAUSE = 0.1  # seconds until it is asked again
_LONGEST = 3600.0  # seconds for which it is; `pygpt batch --help` says so
_UNWRITTEN = 8  # times that answers came and are not written yet, before nothing more is asked

_Found: TypeAlias = "Sequence[Record] | BaseException | None"


def answer_with(make_app: Callable[[], App], n_together: int) -> Callable[[Iterator[Item]], Iterator[Sequence[Record]]]:
    """A `Work` that asks an application, so many requests at a time. The application is made when there is something
    to ask, and runs on a thread of its own, so that Ctrl-C ends it in order."""

    def work(items: Iterator[Item]) -> Iterator[Sequence[Record]]:
        found: SimpleQueue[_Found] = SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(_ask_all(make_app, items, n_together, found))

        def run() -> None:
            try:
                loop.run_until_complete(task)
                loop.run_until_complete(loop.shutdown_asyncgens())
                found.put(None)
            except BaseException as error:
                found.put(error)

        thread = threading.Thread(target=run, name="pygpt job", daemon=True)
        thread.start()
        try:
            while (records := found.get()) is not None:
                if isinstance(records, BaseException):
                    raise records
                yield records
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
            loop.close()

    return work


async def _ask_all(
    make_app: Callable[[], App], items: Iterator[Item], n_together: int, found: SimpleQueue[_Found]
) -> None:
    app = make_app()
    tasks: set[asyncio.Task[Record]] = set()
    async with running(app):
        try:
            while True:
                for item in itertools.islice(items, n_together - len(tasks)):
                    tasks.add(asyncio.create_task(ask(app, item)))
                if not tasks:
                    return
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                found.put([task.result() for task in done])
                while found.qsize() > _UNWRITTEN:
                    await asyncio.sleep(_PAUSE)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def ask(app: App, item: Item) -> Record:
    """The answer of an application to one request. TimeoutError: for an hour it had no room for it."""
    body = json.dumps(item.body).encode()
    clock = asyncio.get_running_loop().time
    end = clock() + _LONGEST
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
        if clock() >= end:
            raise TimeoutError(f"line {item.line}: no room for {_LONGEST / 60:.0f} minutes: {content.decode()}")
        await asyncio.sleep(_PAUSE)
