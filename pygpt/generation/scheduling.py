"""Which requests are computed together: those that wait, those that run, and who comes next."""

from __future__ import annotations

from collections import Counter, deque

from pygpt.generation.loop import Batch, Outcome
from pygpt.generation.sequence import Request
from pygpt.generation.turns import Turns


class Scheduling:
    """Requests that wait for their place in a batch. One caller at a time, who calls `step` as long as it `is_busy`.

    A place goes to whoever has the fewest, of equals to the one that was served longest ago; the requests of one client
    are served in their order. Nobody is passed: where the next request finds no room, those behind it wait with it.
    """

    def __init__(self, batch: Batch, *, max_running: int) -> None:
        self._batch = batch
        self._max_running = max_running
        self._waiting: dict[str, deque[Request]] = {}  # by client
        self._unfinished: dict[Request, int] = {}  # how many of a running request's sequences
        self._places: Counter[str] = Counter()  # of each client's sequences that run
        self._turns = Turns()
        self.n_waiting = 0  # requests
        self.n_steps = 0

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.n_waiting or self._unfinished)

    @property
    def n_running(self) -> int:
        """How many sequences are computed."""
        return self._places.total()

    def has(self, request: Request) -> bool:
        """Whether a request that was admitted has more to come."""
        return request in self._unfinished

    def add(self, request: Request) -> None:
        """A request waits from now on."""
        self._waiting.setdefault(request.client, deque()).append(request)
        self.n_waiting += 1

    def step(self) -> list[Outcome]:
        """Admit what there is room for, and go one step of the batch. What is cancelled leaves, wherever it is."""
        outcomes = self._leave()
        self._admit()
        self.n_steps += 1
        for outcome in self._batch.step():
            self._count(outcome)
            outcomes.append(outcome)
        return outcomes

    def fail(self, error: Exception) -> list[Outcome]:
        """Give up all that runs, after an exception from `step`."""
        outcomes = [Outcome(request, [], error) for request in self._unfinished]
        self._batch.clear()
        for outcome in outcomes:
            self._count(outcome)
        return outcomes

    def _leave(self) -> list[Outcome]:
        """The ends of requests that were cancelled while they waited."""
        outcomes: list[Outcome] = []
        for client, waiting in list(self._waiting.items()):
            gone = [request for request in waiting if request.cancel.is_set()]
            if gone:
                outcomes += [Outcome(request, request.cancelled_pieces()) for request in gone]
                self._replace(client, deque(request for request in waiting if not request.cancel.is_set()))
        return outcomes

    def _admit(self) -> None:
        while self._waiting:
            client = min(self._waiting, key=lambda name: (self._places[name], self._turns.age(name)))
            request = self._waiting[client][0]
            n_running = self.n_running
            if n_running and n_running + request.params.n > self._max_running:
                return
            self._waiting[client].popleft()
            self._replace(client, self._waiting[client])
            self._turns.serve(client)
            self._places[client] += request.params.n
            self._unfinished[request] = request.params.n
            self._batch.admit(request)

    def _replace(self, client: str, waiting: deque[Request]) -> None:
        self._waiting[client] = waiting
        if not waiting:
            del self._waiting[client]
        self.n_waiting = sum(map(len, self._waiting.values()))

    def _count(self, outcome: Outcome) -> None:
        """What a running request's sequences free."""
        request = outcome.request
        n = self._unfinished[request]
        n_ended = n if outcome.error is not None else sum(p.finish_reason is not None for p in outcome.pieces)
        if n_ended:
            self._places[request.client] -= n_ended
            if not self._places[request.client]:
                del self._places[request.client]
            self._unfinished[request] -= n_ended
            if n == n_ended:
                del self._unfinished[request]
