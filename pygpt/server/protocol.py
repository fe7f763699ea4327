"""A connection: uvicorn's HTTP/1.1 over httptools, with limits on what it may take of memory, time and places."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from pygpt.server.errors import ApiError, bad_request, unavailable
from pygpt.server.settings import Settings

_PROGRESS = 4096  # bytes that a client must read within the write timeout


class Connection(HttpToolsProtocol):
    """Limits the size of a request's head, the time until one is there, the number of connections, and how long what
    was written may wait for a client that does not read. Body and answer have their limits in `pygpt.server.call`."""

    settings: Settings  # of the class that `connections` makes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = True  # or before it
        self._n_received = 0  # bytes of a head that is not complete
        self._n_parsed = 0  # bytes of its fields
        self._refusal: ApiError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None  # `cycle` may stand in the queue behind it

    @property
    def _is_idle(self) -> bool:
        return self._running is None or self._running.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # the timer runs whenever the system takes no more
        if len(self.connections) > self.settings.max_connections:
            self._refuse(unavailable(f"there are {self.settings.max_connections} connections already", seconds=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    # --- the head of a request ---

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._n_received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head and self._n_received > self.settings.max_headers:
            self._refuse(self._too_large())
        elif self._is_idle and self._head_timer is None:
            self._expect_head()  # after stray bytes too, or what is left of a body that was refused

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._n_parsed = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._n_received = False, 0
        self._cancel_head_timer()
        is_first = self._is_idle
        super().on_headers_complete()
        if is_first:
            self._running = self.cycle

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or bad_request("this is no valid HTTP request"))

    def _count(self, *parts: bytes) -> None:
        self._n_parsed += sum(map(len, parts))
        if self._n_parsed > self.settings.max_headers:
            self._refusal = self._too_large()
            raise ValueError(str(self._refusal))  # the parser stops, and `send_400_response` follows

    def _too_large(self) -> ApiError:
        return ApiError(431, f"the head of the request is larger than {self.settings.max_headers} bytes")

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.header_timeout, self._late)

    def _late(self) -> None:
        if self._n_received:
            seconds = self.settings.header_timeout
            self._refuse(ApiError(408, f"the head of the request took longer than {seconds:g} seconds"))
        else:
            self.transport.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: ApiError) -> None:
        """Answer outside any request, and close."""
        if self.transport.is_closing():
            return
        if not self._is_idle:
            self.transport.abort()  # an answer is being sent, into which no other may be written
            return
        response = error.response()
        fields = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[error.status], head, bytes(response.body)))
        self.transport.close()

    # --- the answer ---

    def on_response_complete(self) -> None:
        queued = self.pipeline[-1][0] if self.pipeline else None  # which begins now
        super().on_response_complete()
        self._running = queued or self._running

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_writing(self, n_before: int) -> None:
        self._write_timer = self.loop.call_later(self.settings.write_timeout, self._check_writing, n_before)

    def _check_writing(self, n_before: int) -> None:
        """Cut off a client that does not read: its request ends as if it had gone."""
        n_waiting = self.transport.get_write_buffer_size()
        if n_waiting > max(0, n_before - _PROGRESS):
            self.transport.abort()
        else:
            self._watch_writing(n_waiting)


def connections(settings: Settings) -> type[Connection]:
    """The class of a server's connections."""
    return type("Connection", (Connection,), {"settings": settings})
