"""`pygpt.Scheduler`: what many ask for at a time is what each gets alone, bit for bit, and nobody is left waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import CancelToken, Model, Piece, SamplingParams, Scheduler
from pygpt.errors import Cancelled, ContextOverflowError, Overloaded

OPTIONS: dict[str, Any] = {"max_tokens": 20, "temperature": 1.0, "seed": 5}
PROMPTS = ["in the", "a", "on and on in the one"]


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.errors: list[Exception] = []
        self.ended = threading.Event()
        self._n = 0

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        self.pieces += pieces
        if pieces[-1].finish_reason is not None:
            self.ended.set()

    def on_error(self, error: Exception) -> None:
        self.errors.append(error)
        self.ended.set()

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(p.token for p in self.pieces if p.token is not None)


@pytest.fixture
def scheduler(model: Model) -> Iterator[Scheduler]:
    with Scheduler(model) as made:
        yield made


def test_it_gives_what_the_model_gives(model: Model, scheduler: Scheduler) -> None:
    assert scheduler.generate("in the", **OPTIONS) == model.generate("in the", **OPTIONS)
    assert scheduler.generate(PROMPTS, n=2, **OPTIONS) == model.generate(PROMPTS, n=2, **OPTIONS)
    streams = [scheduler.stream(prompt, logprobs=2, **OPTIONS) for prompt in PROMPTS]
    expected = [model.generate(prompt, logprobs=2, **OPTIONS) for prompt in PROMPTS]
    assert [stream.collect() for stream in streams] == [[done] for done in expected]
    stats = scheduler.stats()
    assert (stats.waiting, stats.running) == (0, 0)
    assert stats.steps > 20


def test_a_listener_hears_all_of_a_request(model: Model, scheduler: Scheduler) -> None:
    heard = Heard()
    ticket = scheduler.submit("in the", listener=heard, client="me", **OPTIONS)
    assert heard.ended.wait(60)
    assert heard.tokens == model.generate("in the", **OPTIONS).tokens
    assert (ticket.n_prompt, ticket.n_cached, ticket.seed) == (len(model.tokenizer.encode("in the")), 0, 5)


def test_a_conversation(model: Model, scheduler: Scheduler) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "in the"}]
    options = {"template": template, **OPTIONS}
    assert scheduler.chat(messages, **options) == model.chat(messages, **options)
    heard = Heard()
    ticket = scheduler.submit_chat(messages, listener=heard, **options)
    assert heard.ended.wait(60)
    assert heard.tokens == model.chat(messages, **options).tokens
    assert ticket.turn is not None
    assert ticket.turn.text == "in the"


def test_what_is_cancelled_ends(model: Model, scheduler: Scheduler) -> None:
    cancel = CancelToken()
    stream = scheduler.stream("in the", max_tokens=50, temperature=0, cancel=cancel)
    first = next(stream)
    cancel.cancel()
    (done,) = stream.collect()
    whole = model.generate("in the", max_tokens=50, temperature=0)
    assert done.finish_reason in ("cancelled", whole.finish_reason)
    assert (first.token, *done.tokens) == whole.tokens[: 1 + len(done.tokens)]


def test_a_full_queue_and_a_closed_scheduler_take_nothing(model: Model) -> None:
    with Scheduler(model, max_running=1, max_waiting=2) as scheduler:
        gate, held = threading.Event(), Heard()
        held.on_pieces = lambda pieces: gate.wait(60)  # type: ignore[method-assign, assignment]
        scheduler.submit("a", listener=held, max_tokens=3)
        while scheduler.stats().steps == 0:
            threading.Event().wait(0.001)
        heard = [Heard() for _ in range(3)]
        for listener in heard[:2]:
            scheduler.submit("in the", listener=listener, **OPTIONS)
        with pytest.raises(Overloaded, match="2 requests wait already"):
            scheduler.submit("in the", listener=heard[2], **OPTIONS)
        gate.set()
        scheduler.close(grace=60)
        assert [h.tokens for h in heard[:2]] == [model.generate("in the", **OPTIONS).tokens] * 2
        with pytest.raises(Overloaded, match="closed"):
            scheduler.generate("a")


def test_a_list_may_be_longer_than_the_queue(model: Model) -> None:
    prompts = [[i, i + 1] for i in range(30)]
    with Scheduler(model, max_running=2, max_waiting=3) as scheduler:
        assert scheduler.generate(prompts, **OPTIONS) == model.generate(prompts, **OPTIONS)


def test_closing_cancels_what_runs(model: Model) -> None:
    scheduler = Scheduler(model)
    heard = [Heard() for _ in range(5)]
    for listener in heard:
        scheduler.submit("in the", listener=listener, max_tokens=None, temperature=1.0, client="me")
    scheduler.close()
    assert all(h.ended.is_set() for h in heard)
    assert {h.pieces[-1].finish_reason for h in heard} <= {"cancelled", "stop", "length"}


def test_a_listener_may_close(model: Model) -> None:
    scheduler, other, both = Scheduler(model), Heard(), threading.Event()

    class Closing(Heard):
        def on_pieces(self, pieces: Sequence[Piece]) -> None:
            assert both.wait(60)
            scheduler.close()
            super().on_pieces(pieces)

    closing = Closing()
    endless: dict[str, Any] = {
        "max_tokens": None,
        "temperature": 0,
        "logit_bias": dict.fromkeys(model.config.eos_ids, -1e9),
    }
    scheduler.submit("in the", listener=closing, **endless)
    scheduler.submit("in the", listener=other, **endless)
    both.set()
    for heard in (closing, other):
        assert heard.ended.wait(60)
        assert heard.pieces[-1].finish_reason == "cancelled"
    with pytest.raises(Overloaded, match="closed"):
        scheduler.generate("a")


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf"), None, "1"])
def test_a_grace_is_a_number_of_seconds(model: Model, grace: Any) -> None:
    with Scheduler(model) as scheduler:
        scheduler.generate("a", max_tokens=1)
        with pytest.raises((TypeError, ValueError), match="grace must be a finite number >= 0"):
            scheduler.close(grace)
        scheduler.close(1e300)


def test_wrong_requests_are_refused_at_once(scheduler: Scheduler) -> None:
    with pytest.raises(ContextOverflowError, match="leave no room"):
        scheduler.generate([1] * 64)
    with pytest.raises(TypeError, match="unknown option"):
        scheduler.generate("a", max_token=3)
    with pytest.raises(TypeError, match="client must be of type str"):
        scheduler.generate("a", client=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="listener must have a method on_pieces, and object has none"):
        scheduler.submit("a", listener=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_running must be an integer from 1"):
        Scheduler(scheduler.model, max_running=0)
    assert scheduler.generate("a", params=SamplingParams(max_tokens=1))


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_listener_that_fails_is_left_alone(
    model: Model, scheduler: Scheduler, caplog: Any, error: type[BaseException]
) -> None:
    class Broken(Heard):
        def on_pieces(self, pieces: Sequence[Piece]) -> None:
            self.ended.set()
            raise error("I am broken")

    broken = Broken()
    scheduler.submit("in the", listener=broken, **OPTIONS)
    assert scheduler.generate("in the", **OPTIONS) == model.generate("in the", **OPTIONS)
    assert broken.ended.is_set()
    assert "I am broken" in caplog.text
    assert pygpt.Scheduler is Scheduler


def test_a_function_that_ends_its_thread_ends_no_more_than_what_there_is(model: Model, scheduler: Scheduler) -> None:
    def leave(tokens: Any, logits: Any) -> None:
        raise SystemExit(3)

    heard = Heard()
    scheduler.submit("in the", listener=heard, logits_processor=leave, **OPTIONS)
    assert heard.ended.wait(60)
    assert "SystemExit" in str(heard.errors)
    assert scheduler.generate("in the", **OPTIONS) == model.generate("in the", **OPTIONS)


# --- texts that are only read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_step_tokens", [1, 7, 256])
def test_a_text_is_read_in_parts_among_the_others(model: Model, max_step_tokens: int) -> None:
    text = [*range(60)]
    with Scheduler(model, max_step_tokens=max_step_tokens) as scheduler:
        stream = scheduler.stream(PROMPTS[0], **OPTIONS)
        scored = scheduler.submit_read(text, output="logprobs", n_top=3)
        vector = scheduler.submit_read(text, output="embedding", client="another")
        assert stream.collect() == [model.generate(PROMPTS[0], **OPTIONS)]
        found = scored.result()
        assert np.array_equal(vector.result(), model.embed(text))
    assert [entry.token for entry in found] == text[1:]
    assert [entry.logprob for entry in found] == model.score(text).tolist()
    rows = model._engine.log_softmax(model.logits(text))
    for entry, row in zip(found, rows, strict=False):
        best = np.argsort(-row, kind="stable")[:3]
        assert entry.top == tuple((int(i), float(row[i])) for i in best)


def test_reading_may_be_given_up(model: Model, scheduler: Scheduler) -> None:
    assert scheduler.submit_read([1], output="logprobs").result() == ()
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        scheduler.submit_read([1, 2], output="logprobs", cancel=cancel).result()
    future = scheduler.submit_read([1, 2], output="embedding")
    assert future.cancel() or np.array_equal(future.result(), model.embed([1, 2]))
    with pytest.raises(ValueError, match="output must be one of logprobs, embedding"):
        scheduler.submit_read("a", output="all")  # type: ignore[call-overload]
    with pytest.raises(ContextOverflowError, match="65 tokens do not fit"):
        scheduler.submit_read([1] * 65, output="embedding")
