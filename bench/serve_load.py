"""The load that serve.py puts on a server: clients that ask for streamed completions, and what they wait for.

One process, asyncio, and HTTP/1.1 over its own `asyncio.Protocol`: httpx takes about as long for an event as a small
model for a token, and shares the cores with the server. While the load runs, an answer's bytes are only kept, with the
time at which they came; they are read afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVENT = b"data: {"  # how the event of a piece begins; the last, "[DONE]", is none
END = b"\r\n0\r\n\r\n"  # of a body in chunks


@dataclass
class Answer:
    """An answer as it came: seconds of `time.perf_counter`, and the bytes."""

    sent: float
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    closed: bool = False  # the server closed the connection instead of ending the answer

    @property
    def raw(self) -> bytes:
        return b"".join(data for _, data in self.arrivals)

    @property
    def status(self) -> int:
        """0 where nothing came."""
        head = self.raw[:12]
        return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0

    @property
    def body(self) -> bytes:
        head, _, rest = self.raw.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return rest
        parts: list[bytes] = []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size, 16)
            if n == 0:
                break
            parts.append(rest[:n])
            rest = rest[n + 2 :]
        return b"".join(parts)

    def events(self) -> list[dict[str, Any]]:
        """What the server sent, without "[DONE]"."""
        lines = self.body.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(EVENT)]

    def is_whole(self) -> bool:
        return not self.closed and b"data: [DONE]" in self.body

    def text(self) -> str:
        return "".join(choice["text"] for event in self.events() for choice in event["choices"])

    def n_tokens(self) -> int:
        """As the server counted them."""
        return next(event["usage"]["completion_tokens"] for event in reversed(self.events()) if event.get("usage"))

    def token_times(self) -> list[tuple[float, float]]:
        """When pieces came and how many tokens each stands for: an answer's tokens spread evenly over its events that
        have text. The events after the last text (finish, usage) are none."""
        counts = [(at, data.count(b'"text":"') + data.count(b'"text": "')) for at, data in self.arrivals]
        empty = [data.count(b'"text":""') + data.count(b'"text": ""') for _, data in self.arrivals]
        counts = [(at, n - e) for (at, n), e in zip(counts, empty, strict=True) if n > e]
        n_events = sum(n for _, n in counts)
        each = self.n_tokens() / n_events if self.is_whole() and n_events else 1.0
        return [(at, n * each) for at, n in counts]


class Connection(asyncio.Protocol):
    """A connection that is kept for one request after the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._tail = b""
        self._length: int | None = None
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.arrivals.append((time.perf_counter(), data))
        self._tail = (self._tail + data)[-len(END) :]
        if len(answer.arrivals) == 1:  # a server sends the head at once
            self._length = _length(data)
        if self._tail == END or (self._length is not None and len(answer.raw) >= self._length):
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._answer is not None:
            self._answer.closed = True
        self._finish()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, request: bytes, cut_off: float | None = None) -> Answer:
        """Send a request and wait for the whole answer, or hang up after `cut_off` seconds."""
        assert self.transport is not None
        self._answer, self._tail = Answer(time.perf_counter()), b""
        answer = self._answer
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        timer = None if cut_off is None else self._done.get_loop().call_later(cut_off, self.transport.abort)
        await self._done
        if timer is not None:
            timer.cancel()
        return answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _finish(self) -> None:
        self._answer = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def _length(begin: bytes) -> int | None:
    """How many bytes an answer has that says so in its head; None: it comes in chunks."""
    head, separator, _ = begin.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(head) + len(separator) + int(line[15:])
    return None


def post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def completion(prompt: str | Sequence[int], max_tokens: int, **more: Any) -> bytes:
    """A request for a streamed completion that says at its end how many tokens there were."""
    asked = {"model": "m", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    return post("/v1/completions", json.dumps(asked | {"stream_options": {"include_usage": True}} | more).encode())


async def load(
    port: int, n_clients: int, seconds: float, requests: Iterator[bytes]
) -> tuple[list[Answer], float, float]:
    """Clients that each send the next request when they have the answer to the last. Once each has had an answer, they
    go on for some seconds and hang up; the answers, and from when until when it counts."""
    answers: list[Answer] = []
    connections = [await Connection.open(port) for _ in range(n_clients)]
    waiting = set(range(n_clients))
    warm = asyncio.Event()
    is_over = False

    async def client(k: int) -> None:
        while not is_over:
            request, answer = next(requests), None
            while answer is None or (answer.closed and not answer.arrivals and not is_over):
                if not connections[k].is_open:  # a server may end a connection that was used before
                    connections[k] = await Connection.open(port)
                answer = await connections[k].ask(request)
            answers.append(answer)
            waiting.discard(k)
            if not waiting:
                warm.set()

    clients = asyncio.gather(*(client(k) for k in range(n_clients)))
    begun = asyncio.ensure_future(warm.wait())
    await asyncio.wait([clients, begun], return_when=asyncio.FIRST_COMPLETED)
    begin = time.perf_counter()
    await asyncio.wait([clients], timeout=seconds)
    is_over, end = True, time.perf_counter()
    for connection in connections:
        connection.close()
    await clients
    return answers, begin, end


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Of seconds, in milliseconds."""
    if not values:
        return {}
    p50, p99 = np.percentile(np.asarray(values) * 1e3, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def figures(
    tokens: Sequence[Sequence[tuple[float, float]]], sent: Sequence[float], begin: float, end: float
) -> dict[str, Any]:
    """What clients saw between two moments: tokens a second, and milliseconds to the first and between tokens.

    tokens: when each answer's pieces came, and how many tokens each stands for; sent: when it was asked for.
    """
    inside = sum(n for times in tokens for at, n in times if begin <= at < end)
    first = [times[0][0] - asked for times, asked in zip(tokens, sent, strict=True) if times and begin <= asked < end]
    pairs = (pair for times in tokens for pair in itertools.pairwise(at for at, _ in times))
    between = [b - a for a, b in pairs if begin <= a and b < end]
    return {
        "tokens_per_second": round(inside / (end - begin), 1),
        "first_ms": percentiles(first),
        "between_ms": percentiles(between),
        "requests": len(first),
    }


def measure(port: int, n_clients: int, seconds: float, requests: Iterator[bytes]) -> dict[str, Any]:
    """The figures of a load; SystemExit for an answer that is not whole."""
    answers, begin, end = asyncio.run(load(port, n_clients, seconds, requests))
    whole = [answer for answer in answers if answer.is_whole()]
    for answer in answers:
        if answer.arrivals and (answer.status != 200 or answer.closed is answer.is_whole()):
            raise SystemExit(f"the server answered {answer.raw[:500]!r}")
    result = figures([answer.token_times() for answer in answers], [answer.sent for answer in answers], begin, end)
    mean = sum(answer.n_tokens() for answer in whole) / max(1, len(whole))
    return {**result, "tokens_per_answer": round(mean, 1)}


def alone(port: int, request: bytes) -> tuple[float, Answer]:
    """Seconds to the first token of one request, and its answer."""

    async def ask() -> Answer:
        connection = await Connection.open(port)
        try:
            return await connection.ask(request)
        finally:
            connection.close()

    answer = asyncio.run(ask())
    if answer.status != 200:
        raise SystemExit(f"the server answered {answer.raw[:500]!r}")
    return answer.token_times()[0][0] - answer.sent, answer
