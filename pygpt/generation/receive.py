"""Those who are told what becomes of a request: a thread that reads pieces, whoever holds a future."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from typing import Any

from pygpt.errors import Cancelled, Overloaded
from pygpt.generation.cancel import CancelToken
from pygpt.generation.reading import Found
from pygpt.generation.results import Piece
from pygpt.generation.sequence import Request

_AHEAD = 128  # sequences of one list that are submitted at once


class Promise:
    """A future that is told what a reading found."""

    def __init__(self, cancel: CancelToken) -> None:
        self.future: Future[Any] = Future()
        self.future.add_done_callback(lambda future: cancel.cancel() if future.cancelled() else None)

    def on_found(self, found: Found) -> None:
        """See `Finder`."""
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            self.future.set_result(found)

    def on_error(self, error: Exception) -> None:
        """It failed."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class Feed:
    """A listener whose pieces another thread reads."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Sequence[Piece] | Exception] = SimpleQueue()

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        """See `Listener`."""
        self.queue.put(pieces)

    def on_error(self, error: Exception) -> None:
        """It failed."""
        self.queue.put(error)


class Pieces(Iterator[Piece]):
    """The pieces of requests, as they come. Where nobody reads them any more, the requests are cancelled."""

    def __init__(self, submit: Callable[[Request, Feed], object], requests: list[Request], feed: Feed | None) -> None:
        self._submit_one = submit
        self._feed = feed or Feed()
        self._cancel = requests[0].cancel
        self._n = requests[0].params.n
        self._waiting = deque(requests if feed is None else ())
        self._n_running = 0 if feed is None else self._n
        self._ready: deque[Piece] = deque()
        self._process = os.getpid()
        self._submit()

    def __next__(self) -> Piece:
        if not self._ready and (self._n_running or self._waiting):
            try:
                self._submit()
                self._ready.extend(self._receive())
            except BaseException:
                self._cancel.cancel()
                self._n_running = 0
                self._waiting.clear()
                raise
        if not self._ready:
            raise StopIteration
        piece = self._ready.popleft()
        self._n_running -= piece.finish_reason is not None
        return piece

    def __del__(self) -> None:
        if self._n_running:
            self._cancel.cancel()

    def _submit(self) -> None:
        while self._waiting and self._n_running + self._n <= max(_AHEAD, self._n):
            try:
                self._submit_one(self._waiting[0], self._feed)
            except Overloaded:
                if not self._n_running:
                    raise
                return  # what runs of the list makes room
            self._waiting.popleft()
            self._n_running += self._n

    def _receive(self) -> Sequence[Piece]:
        if os.getpid() != self._process:
            raise Cancelled("the stream belongs to the process that this one was forked from")
        found = self._feed.queue.get()
        if isinstance(found, Exception):
            raise found
        return found
