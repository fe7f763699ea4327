"""`AsyncModel`: a model for asyncio applications, whose tasks share one batch."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeAlias, overload

from pygpt import generation
from pygpt.delivery import Delivery, Hub
from pygpt.errors import check_type
from pygpt.generation import CancelToken, Completion, Layout, Message, Piece, Prompt, SamplingOptions, SamplingParams
from pygpt.model import Model
from pygpt.scheduler import Listener, Scheduler, Ticket

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_P = ParamSpec("_P")
_Several: TypeAlias = Literal[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # type checkers know no "int > 1"


class AsyncAnswerOptions(Layout, SamplingOptions):
    """The keyword arguments of `AsyncModel.chat`, for type checkers."""


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


def _awaited(load: Callable[_P, Model]) -> Callable[_P, Coroutine[Any, Any, AsyncModel]]:
    """Model.load with its arguments, as a coroutine."""

    @functools.wraps(load)
    async def loaded(*args: _P.args, **kwargs: _P.kwargs) -> AsyncModel:
        return AsyncModel(await asyncio.to_thread(load, *args, **kwargs))

    return loaded


class AsyncModel:
    """A model for asyncio: what it is asked at the same time is computed together, and the event loop stays free.

        async with await pygpt.AsyncModel.load("tiny") as model:
            async for piece in model.stream("Once upon a time"):
                print(piece.text, end="")

    Every call is one request to a `pygpt.Scheduler`, so its result is that of the model alone, to the bit. Cancelling
    the task that waits for a result ends the computation and frees its place within a step. Any number of tasks, of any
    number of event loops, may use one. Errors are those of `pygpt.Model`, and `Overloaded` where the queue is full.
    """

    def __init__(self, model: Model | Scheduler) -> None:
        """model: a model, for which a scheduler is made, and closed with this object; or a scheduler, which whoever
        made it closes."""
        check_type("model", model, Model, Scheduler)
        self._owns_scheduler = isinstance(model, Model)
        self._scheduler = Scheduler(model) if isinstance(model, Model) else model
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._lock = threading.Lock()

    load = staticmethod(_awaited(Model.load))

    @property
    def model(self) -> Model:
        """The model itself: its tokenizer, its configuration, and all it computes without waiting for its turn."""
        return self._scheduler.model

    @property
    def scheduler(self) -> Scheduler:
        """What computes the requests."""
        return self._scheduler

    @generation.takes_options
    def stream(
        self, prompt: Prompt, *, params: SamplingParams | None = None, client: str = "", **options: Any
    ) -> AsyncStream:
        """Continue a prompt: an asynchronous iterator over the pieces; where n > 1, `piece.index` says whose it is.

        params: the options as one value; those that are given as well stand in the place of its own.
        client: whose request it is: the scheduler is fair among clients.
        """
        resolved = generation.resolve(params, options)

        def submit(listener: Listener, cancel: CancelToken) -> Ticket:
            return self._scheduler.submit(prompt, listener=listener, params=resolved, cancel=cancel, client=client)

        return AsyncStream(submit, self._hub, resolved)

    @overload
    async def generate(
        self,
        prompt: Prompt,
        *,
        n: Literal[1] = 1,
        params: None = None,
        client: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Completion: ...

    @overload
    async def generate(
        self,
        prompt: Prompt,
        *,
        n: Literal[1],
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Completion: ...

    @overload
    async def generate(
        self,
        prompt: Prompt,
        *,
        n: _Several,
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[SamplingOptions],
    ) -> list[Completion]: ...

    @overload
    async def generate(
        self,
        prompt: Prompt,
        *,
        n: int = 1,  # of `params`, where it is not given here
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Completion | list[Completion]: ...

    @generation.takes_options
    async def generate(
        self, prompt: Prompt, *, params: SamplingParams | None = None, client: str = "", **options: Any
    ) -> Completion | list[Completion]:
        """Continue a prompt; n > 1 gives a list. Several prompts are several calls, as `asyncio.gather` makes them.

        The options are those of `stream`.
        """
        return _one_or_all(await self.stream(prompt, params=params, client=client, **options).collect())

    @generation.takes_chat_options
    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        params: SamplingParams | None = None,
        client: str = "",
        **options: Any,
    ) -> AsyncStream:
        """Answer a conversation, which `Model.render` lays out, piece by piece. The options are those of `Model.chat`
        and `stream`."""
        resolved = generation.resolve(params, options, generation.CHAT)
        layout = Layout(
            tools=tools,
            documents=documents,
            template=template,
            variables=variables,
            continue_final_message=continue_final_message,
        )

        def submit(listener: Listener, cancel: CancelToken) -> Ticket:
            return self._scheduler.submit_chat(
                messages, listener=listener, params=resolved, cancel=cancel, client=client, **layout
            )

        return AsyncStream(submit, self._hub, resolved)

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        n: Literal[1] = 1,
        params: None = None,
        client: str = "",
        **options: Unpack[AsyncAnswerOptions],
    ) -> Completion: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        n: Literal[1],
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[AsyncAnswerOptions],
    ) -> Completion: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        n: _Several,
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[AsyncAnswerOptions],
    ) -> list[Completion]: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,  # of `params`, where it is not given here
        params: SamplingParams | None = None,
        client: str = "",
        **options: Unpack[AsyncAnswerOptions],
    ) -> Completion | list[Completion]: ...

    @generation.takes_chat_options
    async def chat(
        self, messages: Sequence[Message], *, params: SamplingParams | None = None, client: str = "", **options: Any
    ) -> Completion | list[Completion]:
        """Answer a conversation; n > 1 gives a list of answers. The options are those of `stream_chat`."""
        return _one_or_all(await self.stream_chat(messages, params=params, client=client, **options).collect())

    async def close(self, grace: float = 0.0) -> None:
        """Take nothing more. What runs may go on for `grace` seconds and is cancelled then. Of a scheduler that was
        given, nothing is closed."""
        if self._owns_scheduler:
            await asyncio.to_thread(self._scheduler.close, grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<pygpt.AsyncModel of {self._scheduler!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncModel computes in the process that made it and cannot be pickled or copied")

    def _hub(self) -> Hub:
        """The running event loop's."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._hubs:
                self._hubs = {known: hub for known, hub in self._hubs.items() if not known.is_closed()}
                self._hubs[loop] = Hub(loop)
            return self._hubs[loop]


def _one_or_all(completions: list[Completion]) -> Completion | list[Completion]:
    return completions[0] if len(completions) == 1 else completions
