"""Loads on a real `pygpt.Scheduler` in this process, and what each of its steps did and took."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from capacity_fleet import Arrival, Node, Served
from capacity_model import Step, StepModel
from machine import Others

import pygpt
from pygpt.generation import Piece
from pygpt.generation.plan import Chunk, Planner, reader_of

_FIRST_ID = 100  # those below may be special tokens


class Load(NamedTuple):
    """Clients, each of which asks for its next answer when it has the last one; lengths are equally likely."""

    n_clients: int
    prompt: tuple[int, int]
    answer: tuple[int, int]

    def arrivals(self, seed: int) -> Iterator[Arrival]:
        rng = np.random.default_rng(seed)
        while True:
            prompt, answer = (int(rng.integers(low, high + 1)) for low, high in (self.prompt, self.answer))
            yield Arrival(0.0, prompt, answer)


class Measured(NamedTuple):
    """What a load came to."""

    tokens_per_second: float
    steps: list[tuple[Step, float]]
    """What each step did, and the seconds to the beginning of the next."""

    foreign: float
    """The share of the machine's CPU time that others took."""


class Recorder:
    """Writes down what each step of the schedulers within a ``with`` block is, and when it began."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Step]] = []
        self._plan = Planner.plan

    def __enter__(self) -> Recorder:
        Planner.plan = lambda planner, entries: self._note(self._plan(planner, entries))  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Planner.plan = self._plan  # type: ignore[method-assign]

    def _note(self, chunks: list[Chunk]) -> list[Chunk]:
        n_rows = n_positions = n_pairs = 0
        for chunk in chunks:
            n, before = len(chunk.tokens), reader_of(chunk.entry).session.length
            n_rows += n
            n_positions += before + n
            n_pairs += n * before + n * (n + 1) // 2
        n_outputs = sum(chunk.output != "none" for chunk in chunks)
        self.steps.append((time.perf_counter(), Step(n_rows, n_outputs, n_positions, n_pairs)))
        return chunks


class Client:
    """The listener of one request."""

    def __init__(self, prompt: list[int], done: queue.SimpleQueue[Client]) -> None:
        self.tokens = list(prompt)
        """The prompt and what came after it."""

        self.sent, self.first, self.last = time.perf_counter(), 0.0, 0.0
        self.ticket: pygpt.Ticket | None = None
        self._done = done

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.tokens += [piece.token for piece in pieces if piece.token is not None]
        if pieces[-1].finish_reason is not None:
            self._done.put(self)

    def on_error(self, error: Exception) -> None:
        raise error


class Asker:
    """Submits requests of given lengths: random tokens, which share no beginning but that of their conversation, and
    answers that do not end early."""

    def __init__(self, scheduler: pygpt.Scheduler, seed: int) -> None:
        self.done: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self._scheduler, self._config = scheduler, scheduler.model.config
        self._rng = np.random.default_rng(seed)
        self._never = dict.fromkeys(self._config.eos_ids, -100.0)
        self._conversations: dict[str, Client] = {}

    def ask(self, arrival: Arrival) -> Client:
        before = self._conversations.get(arrival.conversation)
        known = [] if before is None else before.tokens[: arrival.prompt]
        more = self._rng.integers(_FIRST_ID, self._config.n_vocab, arrival.prompt - len(known)).tolist()
        client = Client(known + more, self.done)
        options: dict[str, Any] = {"max_tokens": arrival.answer, "temperature": 0, "logit_bias": self._never}
        client.ticket = self._scheduler.submit(client.tokens[:], listener=client, **options)
        if arrival.conversation:
            self._conversations[arrival.conversation] = client
        return client


def has_drawn(steps: Sequence[tuple[float, Step]]) -> bool:
    return any(step.n_outputs for _, step in steps)


def measure(model: pygpt.Model, load: Load, seconds: float, seed: int) -> Measured:
    """Run a load for so long, from an empty scheduler on."""
    others = Others(os.getpid())
    with Recorder() as recorder, pygpt.Scheduler(model, prefix_bytes=0) as scheduler:
        asker = Asker(scheduler, seed)
        arrivals = load.arrivals(seed)
        begun = time.perf_counter()
        for _ in range(load.n_clients):
            asker.ask(next(arrivals))
        while (left := begun + seconds - time.perf_counter()) > 0 or not has_drawn(recorder.steps[:-1]):
            with contextlib.suppress(queue.Empty):
                asker.done.get(timeout=max(left, 0.01))
                asker.ask(next(arrivals))
        steps = list(recorder.steps)
    begins = [begin for begin, _ in steps]
    recorded = [(step, end - begin) for (begin, step), end in zip(steps, begins[1:], strict=False)]
    n_written = sum(step.n_outputs for step, _ in recorded)
    return Measured(n_written / (begins[-1] - begins[0]), recorded, others.shares()["foreign"])


def predict(model: StepModel, load: Load, seconds: float, seed: int) -> float:
    """Tokens a second of the same load, by simulation."""
    node, arrivals = Node(model), load.arrivals(seed)
    requests: list[Served] = []

    def ask() -> None:
        requests.append(Served(next(arrivals)._replace(at=node.now)))
        node.add(requests[-1])

    for _ in range(load.n_clients):
        ask()
    while node.now < seconds:
        node.run_until(node.now + 1e-9)  # a step
        for _ in range(load.n_clients - node.n_unfinished):
            ask()
    return sum(r.arrival.answer - r.left for r in requests if r.context) / node.now


def replay(model: pygpt.Model, arrivals: Sequence[Arrival], seed: int) -> list[Served]:
    """The requests of a trace at their times, when their first and last tokens came, and what prefixes saved."""
    with pygpt.Scheduler(model) as scheduler:
        asker = Asker(scheduler, seed)
        begun = time.perf_counter()
        clients = []
        for arrival in arrivals:
            time.sleep(max(0.0, begun + arrival.at - time.perf_counter()))
            clients.append(asker.ask(arrival))
        for _ in clients:
            asker.done.get()
    served = []
    for arrival, client in zip(arrivals, clients, strict=True):
        cached = (client.ticket and client.ticket.n_cached) or 0
        served.append(Served(arrival, cached=cached, first=client.first - begun, last=client.last - begun))
    return served
