"""Which requests are computed together: those that wait, those that run, and who comes next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from pygpt.errors import Cancelled, ContextOverflowError
from pygpt.generation.cache_account import CacheAccount
from pygpt.generation.loop import Batch, Outcome
from pygpt.generation.plan import Job, job_of
from pygpt.generation.sequence import Request
from pygpt.generation.turns import Turns

_AHEAD = 128  # tokens that there is to be room for when a sequence is admitted


class Scheduling:
    """Jobs that wait for their place in a batch. One caller at a time, who calls `step` as long as it `is_busy`.

    A place goes to whoever has the fewest, of equals to the one that was served longest ago; the requests of one client
    are served in their order. Nobody is passed: where the next request finds no room, those behind it wait with it.
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
        self._admit()
        while len(self._batch.running) > 1 and not self._account.has_room(self._batch.running, 0, self._limit):
            self._pause()
        self.n_steps += 1
        try:
            found = self._batch.step()
        except MemoryError as error:
            found = self._yield_memory(error)
        except Exception as error:
            found = self._fail(list(self._unfinished), error)
        for outcome in found:
            self._count(outcome)
        if not self._unfinished:
            self._limit = self._account.limit
        return outcomes + found

    def _yield_memory(self, error: MemoryError) -> list[Outcome]:
        """There is less memory than was thought: others need it, too. Until all that runs has ended, no more is taken
        than there is now."""
        if len(self._batch.running) <= 1:
            return self._fail([job_of(entry) for entry in self._batch.running], error)
        self._limit = min(self._limit, self._account.held(self._batch.running))
        self._pause()
        return []

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

    def _admit(self) -> None:
        """Let in who comes next, as long as there is room."""
        while self._waiting and not self._batch.paused:
            client = min(self._waiting, key=lambda name: (self._places[name], self._turns.age(name)))
            job = self._waiting[client][0]
            if self._unfinished and not self._fits(job):
                return
            self._waiting[client].popleft()
            self._replace(client, self._waiting[client])
            self._turns.serve(client)
            self._places[client] += job.n_places
            self._unfinished[job] = job.n_places
            self._batch.admit(job)
            self.n_cached += job.n_cached or 0

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
