"""Which requests are computed together: those that wait, those that run, and who comes next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from pygpt.errors import Cancelled, ContextOverflowError
from pygpt.generation.cache_account import CacheAccount
from pygpt.generation.loop import Batch, Outcome
from pygpt.generation.plan import Job, job_of
from pygpt.generation.prefix import PrefixTree
from pygpt.generation.results import Piece
from pygpt.generation.sequence import Request
from pygpt.generation.turns import Turns

_MAX_SEQUENCES = 128  # computed together by `run`: each holds a cache, and more rows make a step hardly more efficient
_LOOK_AHEAD = 32  # requests that may be passed
_AHEAD = 128  # tokens that there is to be room for when a sequence is admitted


class Scheduling:
    """Jobs that wait for their place in a batch. One caller at a time, who calls `step` as long as it `is_busy`.

    A place goes to whoever has the fewest, of equals to the one that was served longest ago; the requests of one client
    are served in their order. Nobody is passed: where the next request finds no room, those behind it wait with it. But
    one whose beginning is being read for another lets others go first, and waits for that as long as it goes on: it
    is read once, for all who begin so.
    Where what runs outgrows the memory, what came last is paused until there is room again, and so goes on what came
    first, which fits alone.
    """

    def __init__(self, batch: Batch, account: CacheAccount, *, max_running: int) -> None:
        self._batch, self._account = batch, account
        self._max_running = max_running
        self._waiting: dict[str, deque[Job]] = {}  # by client
        self._unfinished: dict[Job, int] = {}  # how many of a running request's sequences
        self._places: Counter[str] = Counter()  # of each client's sequences that run
        self._turns = Turns()
        self._limit = account.limit
        self.n_waiting = 0  # requests
        self.n_steps = 0
        self.n_pauses = 0
        self.n_cached = 0  # tokens of prompts that need not be read

    @property
    def cache_bytes(self) -> int:
        """Of keys and values of what runs, if it shares nothing. From any thread."""
        return self._account.of_entries(self._batch.running)

    @property
    def prefixes(self) -> PrefixTree:
        """What is kept of prompts; where nothing is, one that has no room."""
        return PrefixTree(0) if self._batch.prefixes is None else self._batch.prefixes

    @property
    def max_cache_bytes(self) -> int:
        """What it may become."""
        return self._account.limit

    @property
    def n_read(self) -> int:
        """How many tokens were computed."""
        return self._batch.n_read

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

    def check(self, job: Job) -> None:
        """ContextOverflowError: the memory can never hold it. A request that names no number of tokens may become as
        long as the memory lets it. From any thread."""
        longest = self._account.longest
        n = len(job.prompt) if isinstance(job, Request) else job.n_tokens
        wanted = n
        if isinstance(job, Request):
            wanted = n + 1 if job.params.max_tokens is None else n + job.params.max_tokens
        wanted = min(wanted, self._account.n_ctx)
        if wanted > longest:
            raise ContextOverflowError(
                f"{wanted} tokens, {n} of them the prompt's, are more than the {longest} whose keys and values the "
                "scheduler's memory can hold: ask for fewer, or give it more cache_bytes"
            )
        if isinstance(job, Request) and job.params.max_tokens is None and longest < self._account.n_ctx:
            job.params = replace(job.params, max_tokens=longest - n)

    def add(self, job: Job) -> None:
        """A request waits from now on."""
        self._waiting.setdefault(job.client, deque()).append(job)
        self.n_waiting += 1

    def step(self) -> list[Outcome]:
        """Admit what there is room for, and go one step of the batch. What is cancelled leaves, wherever it is. An
        exception from within the model is that of what runs alone, or of all that runs."""
        outcomes = self._leave()
        self._resume()
        outcomes += self._admit()
        while len(self._batch.running) > 1 and not self._account.has_room(self._batch.running, 0, self._limit):
            self._pause()
        self.n_steps += 1
        found = self._advance()
        for outcome in found:
            self._count(outcome)
        if not self._unfinished:
            self._limit = self._account.limit
        return outcomes + found

    def _advance(self) -> list[Outcome]:
        """A step of the batch. Where there is less memory than was thought, because others need it, too, what is kept
        of prefixes goes first; then what came last is paused, and until all that runs has ended, no more is taken than
        there is now."""
        while True:
            try:
                return self._batch.step()
            except MemoryError as error:  # noqa: PERF203
                if self._batch.free_prefixes():
                    continue
                if len(self._batch.running) <= 1:
                    return self._fail([job_of(entry) for entry in self._batch.running], error)
                self._limit = min(self._limit, self._account.held(self._batch.running))
                self._pause()
            except Exception as error:
                return self._fail(list(self._unfinished), error)

    def _fail(self, jobs: Iterable[Job], error: Exception) -> list[Outcome]:
        """Give these up."""
        outcomes = [Outcome(job, [], error) for job in jobs]
        for outcome in outcomes:
            self._batch.drop(outcome.job)
        return outcomes

    def _pause(self) -> None:
        self._batch.pause()
        self.n_pauses += 1

    def _resume(self) -> None:
        """Let what was paused go on, where there is room."""
        batch = self._batch
        while batch.paused:
            more = self._account.of_entry(batch.paused[0], _AHEAD)
            if batch.running and not self._account.has_room(batch.running, _AHEAD, self._limit - more):
                return
            batch.resume()

    def _leave(self) -> list[Outcome]:
        """The ends of requests that were cancelled while they waited."""
        outcomes: list[Outcome] = []
        for client, waiting in list(self._waiting.items()):
            gone = {job for job in waiting if job.cancel.is_set()}
            if gone:
                outcomes += [_cancelled(job) for job in waiting if job in gone]
                self._replace(client, deque(job for job in waiting if job not in gone))
        return outcomes

    def _admit(self) -> list[Outcome]:
        """Let in who comes next, as long as there is room; the ends of those for whom that fails."""
        outcomes: list[Outcome] = []
        while not self._batch.paused and (job := self._next()) is not None:
            if self._unfinished and not self._fits(job):
                break
            client = job.client
            self._waiting[client].remove(job)
            self._replace(client, self._waiting[client])
            self._turns.serve(client)
            self._places[client] += job.n_places
            self._unfinished[job] = job.n_places
            try:
                self._batch.admit(job)
            except Exception as error:  # such as no memory for as many sequences
                outcomes += self._fail([job], error)
                self._count(outcomes[-1])
            self.n_cached += job.n_cached or 0
        return outcomes

    def _next(self) -> Job | None:
        """Who comes next: of the first in the queue, who does not wait for what is being read for others."""
        clients = sorted(self._waiting, key=lambda name: (self._places[name], self._turns.age(name)))
        first = islice((job for client in clients for job in self._waiting[client]), _LOOK_AHEAD)
        return next((job for job in first if not self._batch.awaits(job)), None)

    def _fits(self, job: Job) -> bool:
        """Beside what runs."""
        if self.n_running + job.n_places > self._max_running:
            return False
        n = len(job.prompt) if isinstance(job, Request) else job.n_tokens
        more = self._account.of_several(n, n + (_AHEAD if isinstance(job, Request) else 0), job.n_places)
        return self._account.has_room(self._batch.running, _AHEAD, self._limit - more)

    def _replace(self, client: str, waiting: deque[Job]) -> None:
        self._waiting[client] = waiting
        if not waiting:
            del self._waiting[client]
        self.n_waiting = sum(map(len, self._waiting.values()))

    def _count(self, outcome: Outcome) -> None:
        """What a running request's sequences free."""
        job, n = outcome.job, self._unfinished[outcome.job]
        has_ended = outcome.error is not None or outcome.found is not None
        n_ended = n if has_ended else sum([p.finish_reason is not None for p in outcome.pieces])
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


def run(batch: Batch, requests: Iterable[Request], account: CacheAccount) -> Iterator[Piece]:
    """The pieces of all requests, which enter an empty batch in their order as room is made by those that finish.

    Raises what the first of them to fail does.
    """
    scheduling = Scheduling(batch, account, max_running=_MAX_SEQUENCES)
    left = iter(requests)
    while True:
        for request in islice(left, _MAX_SEQUENCES - scheduling.n_waiting):  # all that wait are looked at in each step
            scheduling.add(request)
        if not scheduling.is_busy:
            return
        for outcome in scheduling.step():
            if outcome.error is not None:
                raise outcome.error
            yield from outcome.pieces
