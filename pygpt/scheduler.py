"""`Scheduler`: many requests at a time to one model."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from pygpt import generation
from pygpt.errors import check_type
from pygpt.fields import doc, documented
from pygpt.generation import (
    Batch,
    CacheAccount,
    CancelToken,
    Completion,
    Layout,
    Listener,
    Message,
    PrefixTree,
    Progress,
    Prompt,
    Reading,
    ReadOutput,
    Request,
    SamplingParams,
    Scheduling,
    Speculation,
    Stream,
    TokenLogprob,
    Turn,
    Worker,
    cache_file,
    share_memory,
)
from pygpt.generation.params import integer, number
from pygpt.generation.receive import Feed, Pieces, Promise
from pygpt.model import Model

__all__ = ["Listener", "Scheduler", "SchedulerStats", "Ticket"]

_AnyPrompt = TypeVar("_AnyPrompt", bound=Prompt)


@documented
@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """What a `Scheduler` has to do now, and did so far."""

    waiting: int = field(metadata=doc("Requests that have no place yet."))
    running: int = field(metadata=doc("Sequences that are computed: n of a request."))
    steps: int = field(metadata=doc("Steps of the model."))
    read_tokens: int = field(metadata=doc("Tokens that were computed: those of prompts, and those that were drawn."))
    cached_tokens: int = field(metadata=doc("Tokens of prompts that were not: a prompt before them began with them."))
    prefix_hits: int = field(metadata=doc("Requests whose prompt began with what was kept."))
    prefix_bytes: int = field(metadata=doc("Memory of what is kept of prompts, and of answers, for those to come."))
    pauses: int = field(metadata=doc("How often a sequence had to wait for memory, and was read again after that."))
    cache_bytes: int = field(metadata=doc("Memory of the keys and values of what is computed."))
    max_cache_bytes: int = field(metadata=doc("What it may become."))


class Ticket:
    """A request that a `Scheduler` took."""

    def __init__(self, request: Request, turn: Turn | None = None) -> None:
        """Private: use `Scheduler.submit`."""
        self._request, self._turn = request, turn

    @property
    def n_prompt(self) -> int:
        """How many tokens the prompt has."""
        return len(self._request.prompt)

    @property
    def n_cached(self) -> int | None:
        """How many of them need not be computed, because they were before; None until the request has its place."""
        return self._request.n_cached

    @property
    def seed(self) -> int:
        """The seed that is used, also where none was given."""
        return self._request.seed

    @property
    def turn(self) -> Turn | None:
        """How a conversation was laid out; None: it is a prompt."""
        return self._turn

    def cancel(self) -> None:
        """Give the request up, from any thread: its place is free within one step of the model."""
        self._request.cancel.cancel()

    def __repr__(self) -> str:
        return f"<pygpt.Ticket: a prompt of {self.n_prompt} tokens>"


class Scheduler:
    """Computes many requests together with one model, on a thread of its own. Any number of threads may ask.

        with pygpt.Scheduler(model) as scheduler:
            done = scheduler.generate(["Once upon a time", "There was"], max_tokens=64)

    What a request gets is what the model gives it alone, to the bit, whoever else is there. Prompts are read in parts
    among the others' steps. Each client, by whatever name it is given, gets its share.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_running: int = 64,
        max_waiting: int = 1024,
        max_step_tokens: int = 256,
        cache_bytes: int | None = None,
        prefix_bytes: int | None = None,
    ) -> None:
        """A scheduler without requests.

        max_running: sequences that are computed together.
        max_waiting: requests that wait for a place; for more, `submit` raises `Overloaded`.
        max_step_tokens: tokens that a step reads: of each sequence that grows one, and of prompts what is left, but a
            quarter at least. The fewer, the shorter the steps, and the longer a prompt takes.
        cache_bytes: memory of all keys and values. None: half of what is free.
        prefix_bytes: of that, for the beginnings of prompts that may come again; 0: none. None: half.
        """
        check_type("model", model, Model)
        self._model = model
        total, for_prefixes = share_memory(cache_bytes, prefix_bytes)
        account = CacheAccount(model._engine, model.config.n_ctx, total - for_prefixes)
        max_running = integer("max_running", max_running, 1)
        max_step_tokens = integer("max_step_tokens", max_step_tokens, 1)
        parts = model._parts

        def make() -> Scheduling:
            prefixes = PrefixTree(for_prefixes) if for_prefixes else None
            batch = Batch(*parts, max_step_tokens=max_step_tokens, prefixes=prefixes)
            return Scheduling(batch, account, max_running=max_running)

        self._worker = Worker(make, integer("max_waiting", max_waiting, 1))
        weakref.finalize(self, self._worker.abandon).atexit = False

    @property
    def model(self) -> Model:
        """What computes."""
        return self._model

    def submit(
        self,
        prompt: Prompt,
        *,
        listener: Listener,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        client: str = "",
        **options: Any,
    ) -> Ticket:
        """Continue a prompt; the listener is told of what comes, on the scheduler's thread.

        client: who asks. Where several do, each has its turn.
        The other arguments are those of `Model.generate`, which says what is raised for wrong ones; and `Overloaded`:
        the queue is full, or the scheduler closed.
        """
        prompts = {"the prompt": generation.read_prompt(prompt, self._model._encode, self._model.config.n_vocab)}
        (request,) = self._model._requests(prompts, generation.resolve(params, options), cancel, client=_client(client))
        return self._submit(request, listener)

    def submit_chat(
        self,
        messages: Sequence[Message],
        *,
        listener: Listener,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        client: str = "",
        **options: Any,
    ) -> Ticket:
        """Answer a conversation, as `submit` continues a prompt. The arguments are those of `Model.chat` and it."""
        layout = Layout(
            tools=tools,
            documents=documents,
            template=template,
            variables=variables,
            continue_final_message=continue_final_message,
        )
        resolved = generation.resolve(params, options, generation.CHAT)
        turn, (request,) = self._model._answers(messages, layout, resolved, cancel=cancel, client=_client(client))
        return self._submit(request, listener, turn)

    @overload
    def submit_read(
        self,
        prompt: Prompt,
        *,
        output: Literal["logprobs"],
        n_top: int = 0,
        cancel: CancelToken | None = None,
        client: str = "",
    ) -> Future[tuple[TokenLogprob, ...]]: ...

    @overload
    def submit_read(
        self, prompt: Prompt, *, output: Literal["embedding"], cancel: CancelToken | None = None, client: str = ""
    ) -> Future[NDArray[np.float32]]: ...

    def submit_read(
        self,
        prompt: Prompt,
        *,
        output: ReadOutput,
        n_top: int = 0,
        cancel: CancelToken | None = None,
        client: str = "",
    ) -> Future[tuple[TokenLogprob, ...]] | Future[NDArray[np.float32]]:
        """Read a text in parts, among the others' steps; the future's `cancel()` gives it up, as `cancel` does.

        output: "logprobs" gives for each token after the first its log-probability, as `Model.score`, and those of the
            `n_top` likeliest at its place; "embedding" gives `Model.embed`'s vector, (n_embd,).

        The future raises `Cancelled` where `cancel` was used. Raises what `submit` does.
        """
        tokens = generation.read_prompt(prompt, self._model._encode, self._model.config.n_vocab)
        generation.check_fits(tokens, self._model.config)
        n_top = integer("n_top", n_top, 0)
        reading = Reading(tokens, output, n_top, generation.cancel_token(cancel), _client(client))
        promise = Promise(reading.cancel)
        if len(reading.tokens):
            self._worker.scheduling.check(reading)
            self._worker.submit(reading, promise)
        else:  # one token alone, which has no log-probability
            promise.on_found(())
        return promise.future

    def stream(
        self,
        prompt: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        client: str = "",
        **options: Any,
    ) -> Stream:
        """As `Model.stream`, together with whatever else is asked of the scheduler."""
        resolved = generation.resolve(params, options)
        requests = self._model._requests(self._model._read(prompt), resolved, cancel, client=_client(client))
        return self._stream(requests)

    def generate(
        self,
        prompt: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        client: str = "",
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion | list[Completion]:
        """As `Model.generate`, together with whatever else is asked of the scheduler."""
        done = self.stream(prompt, params=params, cancel=cancel, client=client, **options).collect(progress)
        return generation.one_or_all(done, generation.is_several(prompt))

    def stream_chat(self, messages: Sequence[Message], **options: Any) -> Stream:
        """As `Model.stream_chat`, with client=, together with whatever else is asked of the scheduler."""
        feed = Feed()
        ticket = self.submit_chat(messages, listener=feed, **options)
        return self._stream([ticket._request], feed)

    def chat(self, messages: Sequence[Message], **options: Any) -> Completion | list[Completion]:
        """As `Model.chat`, with client=, together with whatever else is asked of the scheduler."""
        done = self.stream_chat(messages, **options).collect()
        return generation.one_or_all(done)

    def stats(self) -> SchedulerStats:
        """What it has to do now, and did so far."""
        scheduling = self._worker.scheduling
        prefixes = scheduling.prefixes
        return SchedulerStats(
            waiting=self._worker.n_waiting,
            running=scheduling.n_running,
            steps=scheduling.n_steps,
            read_tokens=scheduling.n_read,
            cached_tokens=scheduling.n_cached,
            prefix_hits=prefixes.n_hits,
            prefix_bytes=prefixes.n_bytes,
            pauses=scheduling.n_pauses,
            cache_bytes=scheduling.cache_bytes,
            max_cache_bytes=scheduling.max_cache_bytes,
        )

    def save_prefixes(self, path: str | os.PathLike[str]) -> None:
        """Write what is kept of prompts to a file, as a whole or not at all. OSError where it cannot be written."""
        cache_file.write(Path(path), self._model._engine, self._model.config, self._worker.scheduling.prefixes.kept())

    def load_prefixes(self, path: str | os.PathLike[str]) -> None:
        """Keep what another scheduler of an equal model had, which `save_prefixes` wrote, as far as there is room.
        Raises what `Model.load_session` does."""
        for tokens, session in cache_file.read(Path(path), self._model._engine, self._model.config):
            self._worker.scheduling.prefixes.give(tokens, session)

    def close(self, grace: float = 0.0) -> None:
        """Take nothing more. What waits or runs may go on for so many seconds, and is cancelled then; returns once all
        has ended. Also from several threads: the least grace counts; a listener's call cancels, and does not wait."""
        grace = number("grace", grace, ">= 0", lambda x: x >= 0)
        self._worker.close()
        if not self._worker.join(grace):
            self._worker.end()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pygpt.Scheduler of {self._model!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Scheduler computes in the process that made it and cannot be pickled or copied")

    def _submit(self, request: Request, listener: Listener, turn: Turn | None = None) -> Ticket:
        self._worker.scheduling.check(request)
        self._worker.submit(request, listener)
        return Ticket(request, turn)

    def _stream(self, requests: list[Request], feed: Feed | None = None) -> Stream:
        """The stream of requests, which are submitted as room is made; of those of a feed, which are already."""
        for request in requests:  # before any of them is computed
            self._worker.scheduling.check(request)
        pieces = Pieces(self._worker.submit, requests, feed)
        return Stream(pieces, requests[0].params, [r.seed for r in requests], requests[0].cancel, Speculation())


def _client(client: object) -> str:
    check_type("client", client, str)
    return client  # type: ignore[return-value]
