"""Which requests are computed together: those that wait, those that run, and who comes next."""

from __future__ import annotations

from collections import Counter, deque

from pygpt.errors import Cancelled
from pygpt.generation.loop import Batch, Job, Outcome
from pygpt.generation.sequence import Request
from pygpt.generation.turns import Turns


class Scheduling:
    """Jobs that wait for their place in a batch. One caller at a time, who calls `step` as long as it `is_busy`.

    A place goes to whoever has the fewest, of equals to the one that was served longest ago; the requests of one client
    are served in their order. Nobody is passed: where the next request finds no room, those behind it wait with it.
    """

    def __init__(self, batch: Batch, *, max_running: int) -> None:
        self._batch = batch
        self._max_running = max_running
        self._waiting: dict[str, deque[Job]] = {}  # by client
        self._unfinished: dict[Job, int] = {}  # how many of a running request's sequences
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

    def has(self, job: Job) -> bool:
        """Whether a request that was admitted has more to come."""
        return job in self._unfinished

    def add(self, job: Job) -> None:
        """A request waits from now on."""
        self._waiting.setdefault(job.client, deque()).append(job)
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
        outcomes = [Outcome(job, [], error) for job in self._unfinished]
        self._batch.clear()
        for outcome in outcomes:
            self._count(outcome)
        return outcomes

    def _leave(self) -> list[Outcome]:
        """The ends of requests that were cancelled while they waited."""
        outcomes: list[Outcome] = []
        for client, waiting in list(self._waiting.items()):
            gone = {job for job in waiting if job.cancel.is_set()}
            if gone:
                outcomes += [_cancelled(job) for job in waiting if job in gone]
                self._replace(client, deque(job for job in waiting if job not in gone))
        return outcomes

    def _admit(self) -> None:
        while self._waiting:
            client = min(self._waiting, key=lambda name: (self._places[name], self._turns.age(name)))
            job = self._waiting[client][0]
            n_running = self.n_running
            if n_running and n_running + job.n_places > self._max_running:
                return
            self._waiting[client].popleft()
            self._replace(client, self._waiting[client])
            self._turns.serve(client)
            self._places[client] += job.n_places
            self._unfinished[job] = job.n_places
            self._batch.admit(job)

    def _replace(self, client: str, waiting: deque[Job]) -> None:
        self._waiting[client] = waiting
        if not waiting:
            del self._waiting[client]
        self.n_waiting = sum(map(len, self._waiting.values()))

    def _count(self, outcome: Outcome) -> None:
        """What a running request's sequences free."""
        job, n = outcome.job, self._unfinished[outcome.job]
        has_ended = outcome.error is not None or outcome.found is not None
        n_ended = n if has_ended else sum(p.finish_reason is not None for p in outcome.pieces)
        if n_ended:
            self._places[job.client] -= n_ended
            if not self._places[job.client]:
                del self._places[job.client]
            self._unfinished[job] -= n_ended
            if n == n_ended:
                del self._unfinished[job]


def _cancelled(job: Job) -> Outcome:
    """The end of what was cancelled while it waited."""
    if isinstance(job, Request):
        return Outcome(job, job.cancelled_pieces())
    return Outcome(job, [], Cancelled("the text was not read"))
