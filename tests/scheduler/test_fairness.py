"""Nobody waits for all that another asks for, nor for a long prompt of his; what never fits is refused at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pygpt import CancelToken, Model, SamplingParams, Scheduler
from pygpt.errors import ContextOverflowError
from pygpt.generation import Batch, CacheAccount, Request, Scheduling


def request(client: str, n_prompt: int = 2, max_tokens: int = 5, n: int = 1) -> Request:
    params = SamplingParams(max_tokens=max_tokens, temperature=0, n=n)
    tokens = np.arange(n_prompt, dtype=np.int32)
    return Request(tokens, params, 0, 0, CancelToken(), eos_ids=frozenset(), client=client)


def scheduling_of(model: Model, max_running: int, max_step_tokens: int = 256) -> Scheduling:
    batch = Batch(*model._parts, max_step_tokens=max_step_tokens)
    return Scheduling(batch, CacheAccount(model._engine, model.config.n_ctx, 2**40), max_running=max_running)


def order_of_ends(scheduling: Scheduling) -> list[Request]:
    ends: list[Request] = []
    while scheduling.is_busy:
        for outcome in scheduling.step():
            assert isinstance(outcome.job, Request)
            if outcome.pieces and outcome.pieces[-1].finish_reason is not None:
                ends.append(outcome.job)
    return ends


def test_a_client_with_one_request_does_not_wait_for_a_thousand(model: Model) -> None:
    scheduling = scheduling_of(model, max_running=4)
    for _ in range(1000):
        scheduling.add(request("many", max_tokens=2))
    for _ in range(3):
        scheduling.step()
    one = request("one", max_tokens=2)
    scheduling.add(one)
    ends = []
    for _ in range(8):
        ends += [outcome.job for outcome in scheduling.step() if outcome.pieces[-1].finish_reason is not None]
    assert one in ends
    assert len(ends) < 30


def test_places_are_shared_among_clients(model: Model) -> None:
    """Of six places each of three clients has two, however much one asks for."""
    scheduling = scheduling_of(model, max_running=6)
    for client, n in (("a", 50), ("b", 2), ("c", 9)):
        for _ in range(n):
            scheduling.add(request(client, max_tokens=20))
    scheduling.step()
    assert scheduling._places == {"a": 2, "b": 2, "c": 2}


def test_prompts_are_read_in_turns(model: Model) -> None:
    """A client with long prompts lets the short one of another be read after one step at most."""
    scheduling = scheduling_of(model, max_running=20, max_step_tokens=8)
    for _ in range(8):
        scheduling.add(request("long", n_prompt=60, max_tokens=1))
    scheduling.step()
    short = request("short", n_prompt=3, max_tokens=1)
    scheduling.add(short)
    ended = [outcome.job for _ in range(2) for outcome in scheduling.step()]
    assert short in ended


def test_the_requests_of_a_client_are_served_in_their_order(model: Model) -> None:
    scheduling = scheduling_of(model, max_running=1)
    requests = [request("a", n_prompt=2 + i % 3) for i in range(6)]
    for r in requests:
        scheduling.add(r)
    assert order_of_ends(scheduling) == requests


def test_who_needs_many_places_is_not_passed(model: Model) -> None:
    scheduling = scheduling_of(model, max_running=4)
    first, wide = [request("a", max_tokens=9) for _ in range(3)], request("a", n=4)
    later = [request("a", max_tokens=1) for _ in range(3)]
    for r in [*first, wide, *later]:
        scheduling.add(r)
    ends = order_of_ends(scheduling)
    assert ends.index(wide) < min(map(ends.index, later))


def test_what_never_fits_is_refused_at_once(model: Model) -> None:
    page = model._engine.cache_bytes(64)
    with pytest.raises(ValueError, match="the keys and values of 64 tokens take"):
        Scheduler(model, cache_bytes=page - 1, prefix_bytes=0)
    with Scheduler(model, cache_bytes=page, prefix_bytes=0) as scheduler:  # n_ctx is 64
        options: dict[str, Any] = {"max_tokens": None, "seed": 1}
        assert scheduler.generate([1], **options) == model.generate([1], **options)
        assert scheduler.stats().max_cache_bytes == page


def test_without_max_tokens_a_text_may_grow_as_far_as_memory_goes() -> None:
    tiny = Model.load("tiny")
    n_bytes = tiny._engine.cache_bytes(64)
    options: dict[str, Any] = {"temperature": 1.0, "seed": 1}
    with Scheduler(tiny, cache_bytes=n_bytes, prefix_bytes=0) as scheduler:
        with pytest.raises(ContextOverflowError, match="80 tokens, 50 of them the prompt's, are more than the 64"):
            scheduler.generate([1] * 50, max_tokens=30)
        with pytest.raises(ContextOverflowError, match="more than the 64"):  # before any of the others is computed
            scheduler.generate([*[[1]] * 200, [1] * 50], max_tokens=30)
        assert scheduler.stats().steps == 0
        with pytest.raises(ContextOverflowError, match="more than the 64"):
            scheduler.submit_read([1] * 70, output="embedding")
        (done,) = scheduler.stream([1] * 50, max_tokens=None, **options).collect()
        assert done == tiny.generate([1] * 50, max_tokens=14, **options)
