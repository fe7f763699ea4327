"""The thread that computes what several threads ask for."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

from pygpt.errors import Overloaded, PygptError
from pygpt.generation.forks import begin_in_children
from pygpt.generation.loop import Outcome
from pygpt.generation.plan import Job
from pygpt.generation.reading import Found, Reading
from pygpt.generation.results import Piece
from pygpt.generation.scheduling import Scheduling
from pygpt.generation.sequence import Request

_log = logging.getLogger("pygpt")


class Listener(Protocol):
    """Whom a `Scheduler` tells what becomes of a request. It is called on the scheduler's thread, which computes
    nothing meanwhile: it must not wait for anything."""

    def on_pieces(self, pieces: Sequence[Piece]) -> object:
        """What a step added, at most once a step; the last piece of each sequence has its finish_reason."""

    def on_error(self, error: Exception) -> object:
        """The request failed: no more pieces come."""


class Finder(Protocol):
    """Whom a `Scheduler` tells what was found of a reading."""

    def on_found(self, found: Found) -> object:
        """All of it."""

    def on_error(self, error: Exception) -> object:
        """It failed, or was cancelled."""


class Worker:
    """Runs a `Scheduling` on a thread of its own, which begins with the first request and ends with `end`."""

    def __init__(self, make: Callable[[], Scheduling], max_waiting: int) -> None:
        """`make` gives one that has nothing to do."""
        self._make, self._max_waiting = make, max_waiting
        self.begin()
        begin_in_children(self)

    def begin(self) -> None:
        """Without anything to do. In a forked process what was asked for before is answered in the other one."""
        self._scheduling = self._make()
        self._wake = threading.Condition()
        self._arrivals: deque[Job] = deque()
        self._listeners: dict[Job, Listener | Finder] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def scheduling(self) -> Scheduling:
        """What it runs: for reading its counts."""
        return self._scheduling

    @property
    def n_waiting(self) -> int:
        """How many requests have no place yet."""
        return len(self._arrivals) + self._scheduling.n_waiting

    @overload
    def submit(self, job: Request, listener: Listener) -> None: ...

    @overload
    def submit(self, job: Reading, listener: Finder) -> None: ...

    def submit(self, job: Job, listener: Listener | Finder) -> None:
        """Overloaded: it is closed, or too many wait. TypeError: a listener that cannot be told."""
        for name in ("on_found" if isinstance(job, Reading) else "on_pieces", "on_error"):
            if not callable(getattr(listener, name, None)):
                raise TypeError(f"listener must have a method {name}, and {type(listener).__name__} has none")
        with self._wake:
            if self._is_closed:
                raise Overloaded("the scheduler is closed")
            if self.n_waiting >= self._max_waiting:
                raise Overloaded(f"{self._max_waiting} requests wait already: try again later")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="pygpt scheduler", daemon=True)
                thread.start()
                atexit.register(self.end)  # a daemon thread must not compute while Python is taken down
                self._thread = thread
            self._listeners[job] = listener
            self._arrivals.append(job)
            self._wake.notify()

    def close(self) -> None:
        """Take nothing more; the thread ends with what there is to do."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()

    def cancel_all(self) -> None:
        """Cancel whatever waits or runs."""
        for job in list(self._listeners):
            job.cancel.cancel()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the thread after `close`; whether it ended. Its own thread does not wait."""
        thread = self._thread
        if thread is None:
            return True
        if thread is threading.current_thread():
            return False
        thread.join(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        return not thread.is_alive()

    def end(self) -> None:
        """Close, cancel and wait, which is for one layer of the model at most."""
        self.close()
        self.cancel_all()
        self.join()

    def abandon(self) -> None:
        """The same without waiting."""
        self.close()
        self.cancel_all()

    def _run(self) -> None:
        try:
            while self._take_arrivals():
                for outcome in self._step():
                    self._deliver(outcome)
        finally:
            atexit.unregister(self.end)

    def _take_arrivals(self) -> bool:
        """Wait until there is something to do; False: there will not be."""
        with self._wake:
            while not self._arrivals and not self._scheduling.is_busy:
                if self._is_closed:
                    return False
                self._wake.wait()
            while self._arrivals:
                self._scheduling.add(self._arrivals.popleft())
        return True

    def _step(self) -> list[Outcome]:
        """An error in the scheduling itself ends all that it had; whoever comes after that finds it working. So does
        SystemExit and its like, of a request's own function: they would end nothing but this thread."""
        try:
            return self._scheduling.step()
        except BaseException as error:
            _log.exception("the scheduling failed: all requests end with its error")
            told = error if isinstance(error, Exception) else PygptError(f"a request's function raised {error!r}")
            with self._wake:
                new = {*self._arrivals}
                outcomes = [Outcome(job, [], told) for job in self._listeners if job not in new]
            self._scheduling = self._make()
            return outcomes

    def _deliver(self, outcome: Outcome) -> None:
        job = outcome.job
        listener: Any = self._listeners[job]  # of the kind that `submit` wants
        if not self._scheduling.has(job):
            del self._listeners[job]
        try:
            if outcome.error is not None:
                listener.on_error(outcome.error)
            elif outcome.found is not None:
                listener.on_found(outcome.found)
            elif outcome.pieces:
                listener.on_pieces(outcome.pieces)
        except BaseException:
            _log.exception("the listener of a request failed: the request is cancelled")
            job.cancel.cancel()
