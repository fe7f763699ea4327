"""What requests begin with alike is read once, and changes no bit of what they get."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import CancelToken, Model, Piece, SamplingParams, Scheduler, _core
from pygpt.errors import CheckpointError
from pygpt.generation import Batch, CacheAccount, PrefixTree, Request, Scheduling

SHARED = np.resize(np.arange(1, 98, dtype=np.int32), 130)
PARAMS = SamplingParams(max_tokens=3, seed=1)


@pytest.fixture(scope="module")
def long_model() -> Model:
    return Model.load("tiny", threads=1)


def prompt(*end: int, n_shared: int = 130) -> np.ndarray:
    return np.concatenate([SHARED[:n_shared], np.array(end, np.int32)])


class Steps:
    """A scheduling that is stepped by hand."""

    def __init__(self, model: Model, **options: Any) -> None:
        self.prefixes = PrefixTree(2**30)
        self.batch = Batch(*model._parts, prefixes=self.prefixes, max_step_tokens=options.pop("max_step_tokens", 40))
        account = CacheAccount(model._engine, model.config.n_ctx, options.pop("limit", 2**40))
        self.scheduling = Scheduling(self.batch, account, max_running=options.pop("max_running", 8))
        self.pieces: dict[Request, list[Piece]] = {}

    def add(self, tokens: np.ndarray, client: str = "", params: SamplingParams = PARAMS) -> Request:
        request = Request(tokens, params, params.seed or 0, 0, CancelToken(), client=client)
        self.pieces[request] = []
        self.scheduling.add(request)
        return request

    def step(self) -> None:
        for outcome in self.scheduling.step():
            assert isinstance(outcome.job, Request)
            assert outcome.error is None
            self.pieces[outcome.job] += outcome.pieces

    def run(self) -> None:
        for _ in range(1000):
            if not self.scheduling.is_busy:
                return
            self.step()
        raise AssertionError("it does not end")

    def tokens(self, request: Request) -> list[int]:
        return [piece.token for piece in self.pieces[request] if piece.token is not None]


def alone(model: Model, request: Request) -> list[int]:
    return list(model.generate(request.prompt, n=1, params=request.params).tokens)


def test_a_prefix_is_read_once(long_model: Model) -> None:
    """By whoever comes first, though all come at once; the others wait for it, and what shares nothing goes on."""
    steps = Steps(long_model)
    same = [steps.add(prompt(200 + k)) for k in range(4)]
    other = steps.add(prompt(7, 8, n_shared=0))
    less = steps.add(prompt(5, n_shared=100))
    steps.step()
    assert [r.n_cached for r in (*same, other, less)] == [0, None, None, None, 0, None]
    steps.run()
    assert less.n_cached == 100  # as soon as that was read; and then what is left was not worth waiting for
    assert [r.n_cached for r in (*same, other)] == [0, 120, 120, 120, 0]
    assert steps.batch.n_read <= 131 + 3 * 11 + 2 + 1 + 6 * 2
    assert steps.prefixes.n_hits == 4
    for request in (*same, other, less):
        assert steps.tokens(request) == alone(long_model, request)
    again = steps.add(prompt(200))
    steps.run()
    assert again.n_cached == 130
    turn = steps.add(np.concatenate([prompt(200), np.array([*steps.tokens(again), 9], np.int32)]))  # of a chat
    steps.run()
    assert turn.n_cached == 131 + 2  # all but the last that was drawn, and the new one
    assert steps.tokens(turn) == alone(long_model, turn)


def test_who_waits_goes_on_when_the_first_is_given_up(long_model: Model) -> None:
    steps = Steps(long_model)
    first, second, third = (steps.add(prompt(200 + k)) for k in range(3))
    steps.step()
    first.cancel.cancel()
    steps.step()
    assert steps.pieces[first][-1].finish_reason == "cancelled"
    assert second.n_cached == 40  # what the first had read
    assert third.n_cached is None
    second.cancel.cancel()
    steps.run()
    assert steps.tokens(third) == alone(long_model, third)


def test_who_waits_is_not_passed_for_ever(long_model: Model) -> None:
    """One place, and others who never wait: the request that waited is the next one."""
    steps = Steps(long_model, max_running=2)
    first = steps.add(prompt(200), "a")
    steps.step()
    waiting = steps.add(prompt(201), "b")
    others = [steps.add(prompt(k, n_shared=0), "b") for k in range(300, 330)]
    steps.run()
    passed = [r for r in others if steps.pieces[r] and list(steps.pieces).index(r)]
    assert waiting.n_cached == 130
    assert len(passed) == 30
    assert steps.tokens(waiting) == alone(long_model, waiting)
    assert steps.tokens(first) == alone(long_model, first)


def test_what_is_paused_finds_itself_again(long_model: Model) -> None:
    engine = long_model._engine
    steps = Steps(long_model, limit=engine.cache_bytes(384), max_step_tokens=200)
    params = SamplingParams(max_tokens=250, seed=3)
    requests = [steps.add(prompt(k, n_shared=0), f"{k}", params) for k in (5, 6, 7, 8)]
    steps.run()
    assert steps.scheduling.n_pauses > 0
    assert steps.batch.n_read <= 4 * 250 + steps.scheduling.n_pauses  # at most one token was read again
    for request in requests:
        assert steps.tokens(request) == alone(long_model, request)


def test_where_memory_ends_prefixes_go_first(long_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(long_model)
    steps.add(prompt(200))
    steps.run()
    kept, forward = steps.prefixes.n_bytes, _core.Engine.forward
    assert kept > 0

    def fails(engine: Any, batch: Any, **options: Any) -> Any:
        if steps.prefixes.n_bytes:
            raise MemoryError
        return forward(engine, batch, **options)

    monkeypatch.setattr(_core.Engine, "forward", fails)
    request = steps.add(prompt(9, n_shared=0))
    for _ in range(10):
        steps.step()
        if not steps.prefixes.n_bytes:
            break
    monkeypatch.undo()
    steps.run()
    assert steps.scheduling.n_pauses == 0
    assert steps.tokens(request) == alone(long_model, request)


class Pieces:
    def __init__(self) -> None:
        self.ended = threading.Event()

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        if pieces[-1].finish_reason is not None:
            self.ended.set()

    def on_error(self, error: Exception) -> None:
        raise error


def test_prefixes_outlive_their_process(long_model: Model, tmp_path: Path) -> None:
    prompts = [prompt(200 + k) for k in range(3)]
    with Scheduler(long_model) as scheduler:
        expected = scheduler.generate(prompts, max_tokens=4, seed=1)
        assert scheduler.stats().prefix_hits == 2
        n_bytes = scheduler.stats().prefix_bytes
        scheduler.save_prefixes(tmp_path / "prefixes")
    with Scheduler(long_model) as scheduler:
        scheduler.load_prefixes(tmp_path / "prefixes")
        assert 0 < scheduler.stats().prefix_bytes <= n_bytes
        heard = Pieces()
        ticket = scheduler.submit(prompts[2], listener=heard, max_tokens=4, seed=1)
        assert heard.ended.wait(60)
        assert ticket.n_cached == 130
        assert scheduler.generate(prompts, max_tokens=4, seed=1) == expected
    with Scheduler(long_model, prefix_bytes=0) as scheduler:
        scheduler.load_prefixes(tmp_path / "prefixes")
        assert scheduler.generate(prompts, max_tokens=4, seed=1) == expected
        assert (scheduler.stats().prefix_hits, scheduler.stats().prefix_bytes) == (0, 0)
        with pytest.raises(CheckpointError, match="cannot be read"):
            scheduler.load_prefixes(tmp_path / "nothing")
