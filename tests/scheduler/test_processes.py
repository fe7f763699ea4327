"""A scheduler's thread ends with whoever had it: the object, the process; and a forked process has one of its own."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pygpt import Model, Piece, Scheduler
from pygpt.generation import Batch, Scheduling


class Endless:
    """A listener who is told how a request ended."""

    def __init__(self) -> None:
        self.reasons: list[object] = []
        self.ended = threading.Event()

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        if pieces[-1].finish_reason is not None:
            self.reasons.append(pieces[-1].finish_reason)
            self.ended.set()

    def on_error(self, error: Exception) -> None:
        self.reasons.append(error)
        self.ended.set()


def test_a_scheduler_that_nobody_has_any_more_frees_itself(model: Model) -> None:
    scheduler: Scheduler | None = Scheduler(model)
    assert scheduler is not None
    listeners = [Endless() for _ in range(40)]
    for listener in listeners:
        scheduler.submit("in the", listener=listener, max_tokens=None)
    worker = weakref.ref(scheduler._worker)
    thread = scheduler._worker._thread
    assert thread is not None
    scheduler = None
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert all(listener.ended.is_set() for listener in listeners)
    gc.collect()
    assert worker() is None


def test_a_stream_that_nobody_reads_is_given_up(model: Model) -> None:
    with Scheduler(model) as scheduler:
        stream = scheduler.stream("in the", max_tokens=50, temperature=1.0, seed=1)
        next(stream)
        token = stream._cancel
        del stream
        gc.collect()
        assert token.cancelled


def test_an_error_of_the_scheduling_itself_ends_what_it_had(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    with Scheduler(model) as scheduler:
        failing = Endless()
        with monkeypatch.context() as patch:
            patch.setattr(Scheduling, "step", lambda self: 1 // 0)
            scheduler.submit("in the", listener=failing)
            assert failing.ended.wait(60)
        assert isinstance(failing.reasons[0], ZeroDivisionError)
        assert "the scheduling failed" in caplog.text
        assert scheduler.generate("in the", seed=1) == model.generate("in the", seed=1)


def test_who_cannot_be_let_in_fails_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    admit = Batch.admit

    def failing(self: Batch, job: Any) -> None:
        if job.client == "big":
            raise MemoryError("so many")
        admit(self, job)

    monkeypatch.setattr(Batch, "admit", failing)
    with Scheduler(model) as scheduler:
        other = scheduler.stream("in the", seed=1)
        with pytest.raises(MemoryError, match="so many"):
            scheduler.generate("in the", client="big")
        assert other.collect() == [model.generate("in the", seed=1)]
        assert scheduler.stats().running == 0


SCRIPT = """
import os, sys, threading, pygpt
model = pygpt.Model.load("tiny")
scheduler = pygpt.Scheduler(model)
class Listener:
    def __init__(self): self.begun = threading.Event()
    def on_pieces(self, pieces): self.begun.set()
    def on_error(self, error): print(error, file=sys.stderr)
listeners = [Listener() for _ in range(5)]
for listener in listeners: scheduler.submit("Once upon a time", listener=listener, max_tokens=None)
stream = scheduler.stream("Once upon a time", max_tokens=None)
for listener in listeners: listener.begun.wait()
"""
FORKS = """
expected = model.generate("Once upon a time", max_tokens=8, seed=1)
child = os.fork()
if child == 0:
    right = scheduler.generate("Once upon a time", max_tokens=8, seed=1) == expected
    try:
        while True: next(stream)
    except pygpt.errors.Cancelled:
        pass
    else:
        right = False
    scheduler.close()
    sys.exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
assert scheduler.generate("Once upon a time", max_tokens=8, seed=1) == expected
"""

# In the child, threads ask at the same time, while all begins anew.
FORKS_AND_THREADS = """
import time
make = scheduler._worker._make
scheduler._worker._make = lambda: time.sleep(0.1) or make()
child = os.fork()
if child == 0:
    done = []
    ask = lambda: done.append(scheduler.generate("Once upon a time", max_tokens=8, seed=1))
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(30)
    os._exit(0 if len(done) == 4 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
# Masks are being computed, under a lock of the grammar's.
FORKS_AND_FORMS = """
import signal
sys.setswitchinterval(1e-5)
form = {"regex": "[a-z ]{3,300}", "max_tokens": 10, "top_p": None, "seed": 1}
expected, stop = model.generate("Once", **form), threading.Event()
constraint = model._grammars.constraint(pygpt.SamplingParams(**form))
def prepare():
    allowed = constraint.begin(())
    while not stop.is_set(): allowed.prepare([])
threads = [threading.Thread(target=prepare) for _ in range(16)]
for thread in threads: thread.start()
statuses = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if scheduler.generate("Once", **form) == expected else 1)
    statuses.append(os.waitpid(child, 0)[1])
    if statuses[-1] != 0: break
stop.set()
for thread in threads: thread.join()
assert not any(statuses), statuses
"""
# A thread writes on after the main thread has ended.
OUTLIVES = """
def write():
    threading.main_thread().join()
    for seed in range(10): model.generate("Once", regex="[a-z ]{3,100}", max_tokens=20, seed=seed)
threading.Thread(target=write).start()
"""
THEN = ["", "del scheduler, stream", "scheduler.close(0.01)", FORKS, FORKS_AND_THREADS, FORKS_AND_FORMS, OUTLIVES]


@pytest.mark.parametrize("then", THEN, ids=range(len(THEN)))
def test_a_process_ends(then: str, tmp_path: Path) -> None:
    if "fork" in then and sys.platform == "win32":
        pytest.skip("no fork")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT + then]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
