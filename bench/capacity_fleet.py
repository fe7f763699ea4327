"""A fleet that is not there: requests of a trace on simulated nodes, each of which does what `pygpt.Scheduler` does, in
the time that a `StepModel` says."""

from __future__ import annotations

import hashlib
import json
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from capacity_model import Step, StepModel


class Arrival(NamedTuple):
    """A line of a trace: a request that comes at some time."""

    at: float
    """Seconds."""

    prompt: int
    """Its tokens, those of the conversation before it included."""

    answer: int
    conversation: str = ""
    """A prompt goes on with the last prompt and answer of its conversation. Empty: it goes on with nothing."""


def read_trace(path: Path, times: int = 1, seed: int = 0) -> list[Arrival]:
    """The requests of a trace in their order: a JSON table a line, with the fields of `Arrival`. `times`: so many loads
    like it at once, each of which begins elsewhere in the trace. ValueError names the line."""
    lines = enumerate(path.read_text().splitlines(), start=1)
    arrivals = [_arrival(line, f"{path}: line {number}") for number, line in lines]
    if not arrivals:
        raise ValueError(f"{path}: no requests")
    return sorted(_copies(arrivals, times, random.Random(seed)))


def _arrival(line: str, where: str) -> Arrival:
    try:
        arrival = Arrival(**json.loads(line))
        if arrival.at >= 0 and arrival.prompt > 0 and arrival.answer > 0:
            return arrival
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None
    raise ValueError(f"{where}: at must be >= 0, prompt and answer > 0")


def _copies(arrivals: Sequence[Arrival], times: int, rng: random.Random) -> Iterator[Arrival]:
    span = max(a.at for a in arrivals) - min(a.at for a in arrivals) + 1e-9
    for copy in range(times):
        shift = 0.0 if copy == 0 else rng.uniform(0, span)
        before = sorted(arrivals)[0].at
        for a in arrivals:
            n_rounds, at = divmod(a.at - before + shift, span)  # what comes after the trace's end comes at its start
            yield a._replace(at=before + at, conversation=a.conversation and f"{copy} {n_rounds:.0f} {a.conversation}")


@dataclass(eq=False)
class Served:
    """A request and what became of it."""

    arrival: Arrival
    context: int = 0
    """Tokens that are read or written."""

    cached: int = 0
    left: int = 0
    """Tokens of the answer to come."""

    first: float = 0.0
    last: float = 0.0


@dataclass(eq=False)
class Node:
    """What one scheduler does: of what grows a token each a step, and of prompts what there is room for."""

    model: StepModel
    max_running: int = 64
    max_step_tokens: int = 256
    prefix_tokens: int = 0
    """Positions that the prefix cache may hold."""

    now: float = 0.0
    waiting: deque[Served] = field(default_factory=deque)
    reading: list[Served] = field(default_factory=list)
    growing: list[Served] = field(default_factory=list)
    prefixes: OrderedDict[str, int] = field(default_factory=OrderedDict)  # tokens by conversation, by last use

    @property
    def n_unfinished(self) -> int:
        return len(self.waiting) + len(self.reading) + len(self.growing)

    def add(self, request: Served) -> None:
        if not self.n_unfinished:
            self.now = max(self.now, request.arrival.at)
        self.waiting.append(request)

    def run_until(self, time: float) -> None:
        """Go on until the first step that ends then or later, or until nothing is left."""
        while self.n_unfinished and self.now < time:
            self._admit()
            if self.reading:
                self._step()
            else:
                self._grow(time)

    def _admit(self) -> None:
        while self.waiting and len(self.reading) + len(self.growing) < self.max_running:
            request = self.waiting.popleft()
            known = self.prefixes.get(request.arrival.conversation, 0) if request.arrival.conversation else 0
            request.context = request.cached = min(known, request.arrival.prompt - 1)
            request.left = request.arrival.answer
            self.reading.append(request)

    def _step(self) -> None:
        n_left = max(self.max_step_tokens - len(self.growing), self.max_step_tokens // 4, 1)
        n_rows, n_positions = len(self.growing), sum(r.context + 1 for r in self.growing)
        n_pairs, drawn = n_positions, list(self.growing)
        for request in self.reading:
            n = min(n_left, request.arrival.prompt - request.context)
            if not n:
                break
            n_pairs += n * request.context + n * (n + 1) // 2
            request.context += n
            n_rows, n_left, n_positions = n_rows + n, n_left - n, n_positions + request.context
            if request.context == request.arrival.prompt:
                drawn.append(request)
        self.now += self.model.seconds(Step(n_rows, len(drawn), n_positions, n_pairs))
        for request in self.growing:
            request.context += 1
        self.growing, self.reading = drawn, [r for r in self.reading if r.context < r.arrival.prompt]
        self._drew(1)

    def _grow(self, time: float) -> None:
        """Steps in which nothing is read, until one ends at `time` or an answer ends."""
        n, positions, n_steps = len(self.growing), sum(r.context + 1 for r in self.growing), 0
        most = min(r.left for r in self.growing)
        while n_steps < most and self.now < time:
            self.now += self.model.seconds(Step(n, n, positions, positions))
            positions += n
            n_steps += 1
        for request in self.growing:
            request.context += n_steps
        self._drew(n_steps)

    def _drew(self, n: int) -> None:
        for request in self.growing:
            request.left -= n
            request.first = request.first or self.now
            if not request.left:
                request.last = self.now
                self._keep(request)
        self.growing = [r for r in self.growing if r.left]

    def _keep(self, request: Served) -> None:
        if not request.arrival.conversation or not self.prefix_tokens:
            return
        self.prefixes[request.arrival.conversation] = request.context
        self.prefixes.move_to_end(request.arrival.conversation)
        while sum(self.prefixes.values()) > self.prefix_tokens:
            self.prefixes.popitem(last=False)


Router = Callable[[Arrival, Sequence[Node]], Node]


def by_conversation(arrival: Arrival, nodes: Sequence[Node]) -> Node:
    """Always the same node for a conversation, as Ray Serve's consistent hashing does it; else the least busy one."""
    if not arrival.conversation:
        return by_load(arrival, nodes)
    digest = hashlib.blake2b(arrival.conversation.encode(), digest_size=8).digest()
    return nodes[int.from_bytes(digest, "big") % len(nodes)]


def by_load(arrival: Arrival, nodes: Sequence[Node]) -> Node:
    """The node with the fewest requests."""
    return min(nodes, key=lambda node: node.n_unfinished)


@dataclass(frozen=True)
class Figures:
    """What a load came to."""

    n_nodes: int
    tokens_per_second: float
    first_p50: float
    first_p99: float
    """Seconds to the first token."""

    between_p99: float
    """Seconds between the tokens of an answer, in the mean of the answer."""

    cached: float
    """Share of the prompts' tokens that a prefix had."""

    def text(self) -> str:
        return (
            f"{self.tokens_per_second:.0f} tokens/s, to the first token p50 {self.first_p50:.3f} s, "
            f"p99 {self.first_p99:.3f} s, between tokens p99 {self.between_p99:.4f} s, "
            f"{self.cached:.0%} of the prompts from prefixes"
        )


def simulate(arrivals: Iterable[Arrival], n_nodes: int, make: Callable[[], Node], router: Router) -> Figures:
    """A load on so many nodes."""
    nodes = [make() for _ in range(n_nodes)]
    requests = [Served(arrival) for arrival in arrivals]
    for request in requests:
        for node in nodes:
            node.run_until(request.arrival.at)
        router(request.arrival, nodes).add(request)
    for node in nodes:
        node.run_until(float("inf"))
    return figures(requests, n_nodes)


def figures(requests: Sequence[Served], n_nodes: int) -> Figures:
    first = np.array([r.first - r.arrival.at for r in requests])
    between = np.array([(r.last - r.first) / max(1, r.arrival.answer - 1) for r in requests])
    seconds = max(r.last for r in requests) - min(r.arrival.at for r in requests)
    return Figures(
        n_nodes,
        sum(r.arrival.answer for r in requests) / seconds,
        float(np.quantile(first, 0.5)),
        float(np.quantile(first, 0.99)),
        float(np.quantile(between, 0.99)),
        sum(r.cached for r in requests) / sum(r.arrival.prompt for r in requests),
    )


def nodes_for(run: Callable[[int], Figures], first_p99: float, between_p99: float, most: int = 4096) -> Figures:
    """The fewest nodes whose figures keep both limits. ValueError: not even `most` do."""

    def is_enough(found: Figures) -> bool:
        return found.first_p99 <= first_p99 and found.between_p99 <= between_p99

    high = run(1)
    low = 0
    while not is_enough(high):
        if high.n_nodes >= most:
            raise ValueError(
                f"{most} nodes are not enough: to the first token p99 {high.first_p99:.3f} s, "
                f"between tokens p99 {high.between_p99:.4f} s"
            )
        low, high = high.n_nodes, run(min(most, 2 * high.n_nodes))
    while high.n_nodes - low > 1:
        middle = run((low + high.n_nodes) // 2)
        low, high = (low, middle) if is_enough(middle) else (middle.n_nodes, high)
    return high
