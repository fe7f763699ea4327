"""`AsyncStream`: a generation that a task reads piece by piece."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from pygpt import generation
from pygpt.delivery import Delivery, Hub
from pygpt.generation import CancelToken, Completion, Piece, SamplingParams
from pygpt.scheduler import Listener, Ticket

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncStream:
    """An asynchronous iterator over the `Piece`s of one generation, as they come. One task reads it at a time.

    The generation begins when the first piece is asked for. It ends, and its place is free within a step, where the
    task that waits for a piece is cancelled or the stream is left behind; `async with` ends it at a certain place.
    """

    def __init__(
        self, submit: Callable[[Listener, CancelToken], Ticket], hub: Callable[[], Hub], params: SamplingParams
    ) -> None:
        """Private: use `AsyncModel.stream`."""
        self._submit = submit
        self._hub = hub
        self._params = params
        self._cancel = CancelToken()
        self._ticket: Ticket | None = None
        self._delivery: Delivery | None = None
        self._unread: deque[Piece] = deque()
        self._n_unfinished = params.n

    @property
    def seed(self) -> int | None:
        """The seed that is used, also where none was given. None: the generation has not begun."""
        return None if self._ticket is None else self._ticket.seed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if not self._unread:
            if not self._n_unfinished:
                raise StopAsyncIteration
            try:
                if self._delivery is None:
                    self._delivery = await self._begin()
                self._unread.extend(await self._delivery.__anext__())
            except BaseException:
                self._n_unfinished = 0
                self.cancel()
                raise
        piece = self._unread.popleft()
        self._n_unfinished -= piece.finish_reason is not None
        return piece

    async def _begin(self) -> Delivery:
        """Submit, in a thread, because a long text takes a while to become tokens. The stream's own CancelToken reaches
        it there: a request whose task was cancelled meanwhile does not begin."""
        delivery = Delivery(self._hub(), self._params.n)
        self._ticket = await asyncio.to_thread(self._submit, delivery, self._cancel)
        return delivery

    def cancel(self) -> None:
        """End the stream, from any thread: unfinished sequences get a last piece with finish_reason "cancelled"."""
        self._cancel.cancel()

    async def collect(self) -> list[Completion]:
        """Read what is left of the stream: the completions of its n sequences."""
        pieces = [piece async for piece in self]
        return generation.collect(pieces, self._params, [self.seed or 0])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if getattr(self, "_n_unfinished", 0):  # none where __init__ failed
            self.cancel()

    def __repr__(self) -> str:
        return f"<pygpt.AsyncStream: {self._n_unfinished} of {self._params.n} sequences unfinished>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncStream belongs to an event loop and cannot be pickled or copied: send its pieces")
