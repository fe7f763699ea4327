"""The prompts of one request while a model continues them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pygpt.generation import (
    Completion,
    FinishReason,
    Piece,
    Prompt,
    SamplingParams,
    Turn,
    check_fits,
    collect,
    read_prompt,
)
from pygpt.scheduler import Ticket
from pygpt.server.call import Call
from pygpt.server.errors import ApiError, bad_request, of_input, unavailable
from pygpt.server.models import Entry
from pygpt.server.openai.answers import Count


class Run:
    """Asks for the continuation of one prompt or several, and gives what comes: `Piece.index` counts through all of
    them, as that of a `Stream`."""

    def __init__(self, call: Call, params: SamplingParams, n_prompts: int = 1) -> None:
        """ApiError: more sequences than the server allows."""
        self.params = params
        self.n_sequences = params.n * n_prompts
        if self.n_sequences > call.settings.max_sequences:
            what = f"{n_prompts} prompts, {params.n} times each," if n_prompts > 1 else f"n = {params.n}"
            raise bad_request(
                f"{what} is more than the {call.settings.max_sequences} that this server allows", param="n"
            )
        self._call = call
        self._delivery = call.deliver(self.n_sequences)

    async def submit(self, field: str, submit: Callable[..., Ticket], prompt: object, **options: Any) -> None:
        """Give the next prompt to `Scheduler.submit` or `submit_chat`; `field` is the form's name for it."""
        first = len(self._delivery.tickets) * self.params.n
        with _blamed(field):
            await self._call.submit(self._delivery, submit, prompt, first=first, params=self.params, **options)

    @property
    def turn(self) -> Turn:
        """How the conversation was laid out."""
        turn = self._delivery.tickets[0].turn
        assert turn is not None
        return turn

    async def __aiter__(self) -> AsyncIterator[list[Piece]]:
        """What has come since the last time. ApiError: the scheduler was closed, or what the text must be turned out
        to be impossible."""
        try:
            async for pieces in self._delivery:
                for piece in pieces:
                    if piece.finish_reason == "cancelled":
                        raise unavailable("the answer was cut short, because the server stops")
                yield pieces
        except ValueError as error:
            raise of_input(error) from error

    async def completions(self) -> list[Completion]:
        """All of it, once it has come: n for each prompt."""
        pieces = [piece async for several in self for piece in several]
        return collect(pieces, self.params, [ticket.seed for ticket in self._delivery.tickets])

    def count(self, n_new: int, n_reasoning: int = 0) -> Count:
        """What was read, and that so many tokens are new."""
        n_prompt = sum(ticket.n_prompt for ticket in self._delivery.tickets)
        return Count(n_prompt, self._delivery.n_cached, n_new, n_reasoning)


def new_tokens(call: Call, field: str, asked: int | None, default: int | None = None) -> int | None:
    """How many tokens an answer may have: what the form's field says, else the default, within the server's limit.
    ApiError: more than that."""
    most = call.settings.max_tokens
    if asked is not None and most is not None and asked > most:
        raise bad_request(f"{field} must be at most {most} on this server, not {asked}", param=field)
    limits = [limit for limit in (default if asked is None else asked, most) if limit is not None]
    return min(limits, default=None)


@contextlib.contextmanager
def _blamed(field: str) -> Iterator[None]:
    """What is wrong with a request is wrong with this field, if it is not said."""
    try:
        yield
    except ApiError as error:
        if error.status == 400 and error.body.error.param is None:
            error.body.error.param = field
        raise


@contextlib.contextmanager
def schema_of(field: str, options: Mapping[str, Any]) -> Iterator[None]:
    """What is wrong with a schema is wrong with this field, where its options are those of `SamplingParams`."""
    try:
        yield
    except ApiError as error:
        if options and error.body.error.param == "json_schema":
            error.body.error.param = field
        raise


_Result = TypeVar("_Result")


async def together(parts: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """What each of them returns. Where one fails, or the client goes away, none of the others goes on."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def token_ids(call: Call, entry: Entry, field: str, prompt: Prompt) -> list[int]:
    """A prompt's tokens, which the context holds. ApiError, by the field's name: what `Model.generate` would say
    against it."""
    model = entry.model

    def found() -> list[int]:
        ids = read_prompt(prompt, lambda text: model.tokenizer.encode(text), model.config.n_vocab)
        check_fits(ids, model.config)
        return ids.tolist()  # type: ignore[no-any-return]

    with _blamed(field):
        tokens: list[int] = await call.run(found)
    return tokens


async def read(call: Call, entry: Entry, field: str, tokens: Sequence[int], **options: Any) -> Any:
    """What `Scheduler.submit_read` finds."""
    with _blamed(field):
        future = await call.run(
            entry.scheduler.submit_read, tokens, cancel=call.deliver(0).cancel, client=call.client, **options
        )
        return await asyncio.wrap_future(future)


def finish_reason(reason: FinishReason | None) -> Literal["stop", "length"]:
    """Of a sequence that was not cancelled."""
    return "length" if reason == "length" else "stop"
