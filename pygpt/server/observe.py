"""What is noted of each request: its id, a line in the log, metrics, a span of a trace."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pygpt.generation import Piece
from pygpt.server import log
from pygpt.server.metrics import Meter, Metrics
from pygpt.server.trace import Tracing

_ID = re.compile(r"[!-~]{1,128}")
_MAX_PATH = 200  # characters of it that are noted


@dataclass(eq=False)
class Record:
    """What is known of a request so far."""

    id: str
    method: str
    path: str
    client: str
    endpoint: str = "none"  # the path as the routes have it
    status: int | None = None
    model: str | None = None
    n_prompt: int = 0
    n_cached: int = 0
    n_new: int = 0
    finish: set[str] = field(default_factory=set)
    begun: float = field(default_factory=time.perf_counter)
    first: float | None = None  # when its first token came
    last: float = 0.0
    meter: Meter | None = None  # of the model

    def took(self, pieces: Sequence[Piece]) -> None:
        """A step gave it these."""
        now = time.perf_counter()
        n_new = 0
        for piece in pieces:
            n_new += piece.token is not None
            if piece.finish_reason is not None:
                self.finish.add(piece.finish_reason)
        if not n_new:
            return
        self.n_new += n_new
        if self.meter is not None:
            self.meter.new.inc(n_new)
            if self.first is None:
                self.meter.first.observe(now - self.begun)
            else:
                self.meter.between.observe(now - self.last)
        self.first, self.last = self.first or now, now


class Observed:
    """Around the whole application, as ASGI middleware: gives each request a `Record` and an id, its own if it brings
    one, and notes how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None) -> None:
        self._app, self._metrics, self._tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        client = scope["client"][0] if scope.get("client") else ""
        record = Record(request_id, scope["method"], scope["path"][:_MAX_PATH], client)
        scope.setdefault("state", {})["record"] = record

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        span = None if self._tracing is None else self._tracing.begin(record.method, record.path, headers)
        try:
            await self._app(scope, receive, noting)
        finally:
            self._note(record)
            if span is not None and self._tracing is not None:
                self._tracing.end(
                    span, f"{record.method} {record.endpoint}", _attributes(record), failed=(record.status or 0) >= 500
                )

    def _note(self, record: Record) -> None:
        seconds = time.perf_counter() - record.begun
        status = record.status or _GONE
        self._metrics.ended(record.endpoint, status, seconds)
        tokens = record.model is not None
        log.request(
            {
                "id": record.id,
                "client": record.client,
                "method": record.method,
                "path": record.path,
                "status": status,
                "model": record.model,
                "prompt_tokens": record.n_prompt if tokens else None,
                "cached_tokens": record.n_cached if tokens else None,
                "new_tokens": record.n_new if tokens else None,
                "first_token_seconds": None if record.first is None else record.first - record.begun,
                "seconds": seconds,
                "finish": ",".join(sorted(record.finish)) or None,
            }
        )


_GONE = 499  # as nginx has it: the client went away before there was an answer


def _attributes(record: Record) -> dict[str, str | int | float]:
    """By OpenTelemetry's semantic conventions."""
    found: dict[str, str | int | float | None] = {
        "http.route": record.endpoint,
        "http.response.status_code": record.status or _GONE,
        "client.address": record.client,
        "pygpt.request_id": record.id,
        "gen_ai.request.model": record.model,
    }
    if record.model is not None:
        found |= {"gen_ai.usage.input_tokens": record.n_prompt, "gen_ai.usage.output_tokens": record.n_new}
        if record.first is not None:
            found["gen_ai.response.time_to_first_chunk"] = record.first - record.begun
    return {name: value for name, value in found.items() if value is not None}
