"""One request while it is answered: what its handler needs, and how it ends when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Message, Receive

from pygpt.delivery import Delivery, Hub
from pygpt.errors import PygptError
from pygpt.scheduler import Ticket
from pygpt.server.auth import Hosts, Keys
from pygpt.server.errors import ApiError, of_input, too_large, unavailable
from pygpt.server.metrics import Metrics
from pygpt.server.models import Entry, Models
from pygpt.server.observe import Record
from pygpt.server.settings import Settings

Stop: TypeAlias = Literal["gone", "late", "slow body", "shutdown"]


@dataclass(eq=False)
class Service:
    """What all requests of an application share."""

    settings: Settings
    models: Models
    hub: Hub
    hosts: Hosts
    keys: Keys
    metrics: Metrics
    description: Callable[[], Mapping[str, Any]]  # of the endpoints, by OpenAPI
    is_draining: bool = False  # takes no new requests, finishes what runs
    calls: set[Call] = field(default_factory=set)


class Call:
    """A request. Its handler takes models and submits prompts through it, and what it took it gives back at the end,
    however that comes."""

    def __init__(self, service: Service, request: Request, form: type[BaseModel] | None) -> None:
        self.service = service
        self.request = request
        self.stopped: Stop | None = None
        self._form = form
        self._entries: list[Entry] = []
        self._deliveries: list[Delivery] = []
        self._task = asyncio.current_task()

    @property
    def settings(self) -> Settings:
        return self.service.settings

    @property
    def record(self) -> Record:
        """What is noted of this request."""
        record: Record = self.request.state.record
        return record

    @property
    def client(self) -> str:
        """Whom it is for, by which the scheduler is fair: a key's number, or an address."""
        return self.record.client

    async def model(self, name: str) -> Entry:
        """The model of this name, which stays in memory until the request ends. ApiError: 404, 500, 503."""
        entry = await self.service.models.acquire(name)
        self._entries.append(entry)
        self.record.model, self.record.meter = name, self.service.metrics.meter(name)
        return entry

    def deliver(self, n_sequences: int) -> Delivery:
        """Where the pieces of so many sequences will come; when the request ends, they are cancelled."""
        delivery = Delivery(self.service.hub, n_sequences, self.record.took)
        self._deliveries.append(delivery)
        return delivery

    async def submit(
        self, delivery: Delivery, submit: Callable[..., Ticket], *args: Any, first: int = 0, **kwargs: Any
    ) -> Ticket:
        """What a scheduler's `submit` or `submit_chat` gives, with `listener`, `cancel` and `client` set; `first` is
        the number of its first sequence. ApiError: what the scheduler says against it."""
        listener = delivery.numbered(first) if first else delivery
        ticket: Ticket = await self.run(
            submit, *args, listener=listener, cancel=delivery.cancel, client=self.client, **kwargs
        )
        delivery.tickets.append(ticket)
        self.record.n_prompt += ticket.n_prompt
        return ticket

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a function of pygpt's returns for input of the client's, in a thread. Its errors are the client's."""
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except (PygptError, ValueError, TypeError) as error:
            raise of_input(error, self._form) from error

    def stop(self, why: Stop) -> None:
        """End the handler wherever it is."""
        if self.stopped is None and self._task is not None:
            self.stopped = why
            self._task.cancel()

    def close(self) -> None:
        """Give everything back."""
        for delivery in self._deliveries:
            delivery.cancel.cancel()
            self.record.n_cached += delivery.n_cached
        meter = self.record.meter
        if meter is not None:
            meter.prompt.inc(self.record.n_prompt)
            meter.cached.inc(self.record.n_cached)
        for entry in self._entries:
            self.service.models.release(entry)
        self._entries.clear()
        self._task = None


async def read_body(call: Call, receive: Receive) -> bytes:
    """The body of a request, within the limits of size and time. ApiError: 408 and 413."""
    settings = call.settings
    length = call.request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > settings.max_body:
        raise too_large(settings.max_body)
    timer = asyncio.get_running_loop().call_later(settings.body_timeout, call.stop, "slow body")
    chunks: list[bytes] = []
    n_bytes = 0
    try:
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                call.stopped = "gone"
                raise asyncio.CancelledError
            n_bytes += len(message.get("body", b""))
            if n_bytes > settings.max_body:
                raise too_large(settings.max_body)
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)
    finally:
        timer.cancel()


async def until_gone(call: Call, receive: Receive) -> None:
    """Stop the request when its client goes away. Runs beside the handler, once the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.stop("gone")


def check_open(service: Service) -> None:
    """ApiError 503 while the server stops."""
    if service.is_draining:
        raise unavailable("the server is shutting down")


def check_media_type(request: Request) -> None:
    """ApiError 415 for a body that does not say that it is JSON: what a page of another website may send without being
    asked for permission does not. Ollama's own examples do not say so either; its endpoints ask it of browsers alone,
    which name themselves by these headers."""
    kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    by_browser = not {"origin", "referer", "sec-fetch-site"}.isdisjoint(request.headers.keys())
    if kind != "application/json" and (by_browser or not request.scope["path"].startswith("/api/")):
        raise ApiError(415, f"the content-type must be application/json, not {kind[:80] or 'missing'}")
