"""`AsyncModel`: a model for asyncio applications, whose tasks share one batch."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from pygpt import generation
from pygpt.async_stream import AsyncStream
from pygpt.delivery import Hub
from pygpt.errors import check_type
from pygpt.generation import CancelToken, Completion, Layout, Message, Prompt, SamplingOptions, SamplingParams
from pygpt.model import Model
from pygpt.scheduler import Listener, Scheduler, Ticket

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_P = ParamSpec("_P")
_Found = TypeVar("_Found")
_Several: TypeAlias = Literal[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # type checkers know no "int > 1"


class AsyncAnswerOptions(Layout, SamplingOptions):
    """The keyword arguments of `AsyncModel.chat`, for type checkers."""


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
        return generation.one_or_all(await self.stream(prompt, params=params, client=client, **options).collect())

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
        return generation.one_or_all(
            await self.stream_chat(messages, params=params, client=client, **options).collect()
        )

    async def embed(self, text: Prompt, *, client: str = "") -> NDArray[np.float32]:
        """The vector of a text (n_embd,), as that of `Model.embed`."""
        submit = self._scheduler.submit_read
        return await _read(lambda cancel: submit(text, output="embedding", cancel=cancel, client=client))

    async def score(self, prompt: Prompt, *, client: str = "") -> NDArray[np.float32]:
        """(T,) tokens -> (T - 1,): the log-probability of each token after the first, as that of `Model.score`."""
        submit = self._scheduler.submit_read
        entries = await _read(lambda cancel: submit(prompt, output="logprobs", cancel=cancel, client=client))
        return np.array([entry.logprob for entry in entries], np.float32)

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


async def _read(submit: Callable[[CancelToken], Future[_Found]]) -> _Found:
    """What a reading finds; it ends where the task that waits is cancelled."""
    cancel = CancelToken()
    try:
        return await asyncio.wrap_future(await asyncio.to_thread(submit, cancel))
    except BaseException:
        cancel.cancel()
        raise
