"""The way from a scheduler's threads to the event loop: a queue a request, and one wake-up a step for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from pygpt.generation import CancelToken, Listener, Piece
from pygpt.scheduler import Ticket


class Hub:
    """Wakes the event loop once for all that a step gives to all its requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[tuple[Delivery, Sequence[Piece] | Exception]] = deque()
        self._is_woken = False

    def put(self, delivery: Delivery, item: Sequence[Piece] | Exception) -> None:
        """From any thread. Whoever finds the loop woken was before the loop cleared the flag, and what it appended is
        still to be handed out; so nothing waits for a lock."""
        self._ready.append((delivery, item))
        if not self._is_woken or self._loop.is_closed():
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # the loop is closed: nobody waits any longer
                self._ready.clear()

    def _hand_out(self) -> None:
        self._is_woken = False
        while self._ready:
            delivery, item = self._ready.popleft()
            delivery.take(item)


class Delivery:
    """The listener of one request, of one prompt or several: an asynchronous iterator over the pieces of each step.

        delivery = Delivery(hub, params.n)
        scheduler.submit(prompt, listener=delivery, cancel=delivery.cancel, params=params)
        async for pieces in delivery: ...

    It ends once all sequences have. Errors of the scheduler are raised from it.
    """

    def __init__(
        self, hub: Hub, n_sequences: int, note: Callable[[Sequence[Piece]], object] = lambda pieces: None
    ) -> None:
        """`note` is called with the pieces of each step, on the event loop."""
        self.cancel = CancelToken()
        self.tickets: list[Ticket] = []  # of what was submitted
        self.n_unfinished = n_sequences
        self._hub, self._note = hub, note
        self._pieces: list[Piece] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def n_cached(self) -> int:
        """How many tokens of the prompts were known from before; 0 until that is decided."""
        return sum(ticket.n_cached or 0 for ticket in self.tickets)

    def numbered(self, first: int) -> Listener:
        """The listener of a further prompt, whose sequences have the numbers from `first` on."""
        return _Numbered(self, first)

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        self._hub.put(self, pieces)

    def on_error(self, error: Exception) -> None:
        self._hub.put(self, error)

    def take(self, item: Sequence[Piece] | Exception) -> None:
        """On the event loop."""
        if isinstance(item, Exception):
            self._error = item
        else:
            self._note(item)
            self._pieces += item
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Delivery:
        return self

    async def __anext__(self) -> list[Piece]:
        """What came since the last time, at least one piece."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if not self.n_unfinished:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        pieces, self._pieces = self._pieces, []
        self.n_unfinished -= sum(piece.finish_reason is not None for piece in pieces)
        return pieces


class _Numbered:
    """The listener of a prompt that is not the first."""

    def __init__(self, delivery: Delivery, first: int) -> None:
        self._delivery, self._first = delivery, first

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        self._delivery.on_pieces([replace(piece, index=piece.index + self._first) for piece in pieces])

    def on_error(self, error: Exception) -> None:
        self._delivery.on_error(error)
