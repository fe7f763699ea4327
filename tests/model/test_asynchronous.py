"""AsyncModel: the same bits as the model alone, and places that are free when nobody waits."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
import pytest

import pygpt
from pygpt import AsyncModel, Model, Scheduler
from pygpt.delivery import Delivery, Hub
from pygpt.errors import CheckpointError, ContextOverflowError, Overloaded, TokenizerError

_Result = TypeVar("_Result")
PROMPTS = ["in the", "an", "the thing on", "a"]


def run(model: Model | Scheduler, use: Callable[[AsyncModel], Awaitable[_Result]]) -> _Result:
    async def main() -> _Result:
        async with AsyncModel(model) as asynchronous:
            return await use(asynchronous)

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Time for the scheduler's thread; the test fails where the condition never comes true."""
    async with asyncio.timeout(30) if hasattr(asyncio, "timeout") else _forever():
        while not condition():
            await asyncio.sleep(0.002)


class _forever:  # noqa: N801 - in place of asyncio.timeout, which Python 3.10 lacks
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


def is_idle(scheduler: Scheduler) -> bool:
    stats = scheduler.stats()
    return stats.running == stats.waiting == 0


def test_results_are_those_of_the_model(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> list[Any]:
        calls = [asynchronous.generate(p, max_tokens=20, seed=k, logprobs=2) for k, p in enumerate(PROMPTS * 4)]
        return await asyncio.gather(*calls)

    alone = [model.generate(p, max_tokens=20, seed=k, logprobs=2) for k, p in enumerate(PROMPTS * 4)]
    assert run(model, use) == alone


def test_pieces_are_those_of_the_model(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> list[pygpt.Piece]:
        stream = asynchronous.stream("in the", max_tokens=12, seed=5, n=3)
        assert stream.seed is None
        pieces = [piece async for piece in stream]
        assert stream.seed == 5
        assert await stream.collect() is not None  # nothing is left, and nothing is waited for
        return pieces

    alone = list(model.stream("in the", max_tokens=12, seed=5, n=3))
    key = lambda piece: piece.index  # noqa: E731 - stable, so each sequence keeps its order
    assert sorted(run(model, use), key=key) == sorted(alone, key=key)


def test_n_and_params(model: Model) -> None:
    params = pygpt.SamplingParams(max_tokens=5, n=2, seed=3)

    async def use(asynchronous: AsyncModel) -> tuple[Any, Any]:
        return await asynchronous.generate("a", params=params), await asynchronous.generate("a", params=params, n=1)

    several, one = run(model, use)
    assert several == model.generate("a", params=params)
    assert one == model.generate("a", params=params, n=1)


def test_chat(speaker_folder: Callable[..., Any]) -> None:
    model = Model.load(speaker_folder(("u:hi<|endoftext|>a:", "hello")), threads=1)
    messages = [{"role": "user", "content": "hi"}]

    async def use(asynchronous: AsyncModel) -> tuple[Any, str]:
        text = "".join([piece.text async for piece in asynchronous.stream_chat(messages, seed=1)])
        return await asynchronous.chat(messages, seed=1), text

    done, text = run(model, use)
    assert done == model.chat(messages, seed=1)
    assert text == done.text == "hello"


def test_texts_are_read_as_by_the_model(model: Model) -> None:
    texts = [prompt * 5 for prompt in PROMPTS]

    async def use(asynchronous: AsyncModel) -> tuple[list[Any], list[Any]]:
        vectors = asyncio.gather(*map(asynchronous.embed, texts))
        scores = asyncio.gather(*map(asynchronous.score, [*texts, [1]]))
        return list(await vectors), list(await scores)

    vectors, scores = run(model, use)
    assert np.array_equal(vectors, model.embed(texts))
    for text, score in zip([*texts, [1]], scores, strict=True):
        assert np.array_equal(score, model.score(text))
        assert score.dtype == np.float32


def test_a_cancelled_reading_ends(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> None:
        tasks = [asyncio.create_task(asynchronous.score("in the " * 8)) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await until(lambda: is_idle(asynchronous.scheduler))
        with pytest.raises(ContextOverflowError):
            await asynchronous.embed([1] * 1000)

    run(model, use)


def test_the_loop_goes_on_while_a_model_computes(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> int:
        task = asyncio.create_task(asynchronous.generate("in the", max_tokens=50))
        n = 0
        while not task.done():
            n += 1
            await asyncio.sleep(0)
        return n

    assert run(model, use) > 1


def test_a_cancelled_task_frees_its_place(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> int:
        tasks = [asyncio.create_task(asynchronous.generate("in the", max_tokens=60, n=1000)) for _ in range(3)]
        await until(lambda: asynchronous.scheduler.stats().running > 0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await until(lambda: is_idle(asynchronous.scheduler))
        return len((await asynchronous.generate("a", max_tokens=3)).tokens)

    assert run(model, use) == 3


def test_a_task_that_is_cancelled_before_it_begins(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> None:
        task = asyncio.create_task(asynchronous.generate("in the", max_tokens=60, n=1000))
        await asyncio.sleep(0)  # the prompt is on its way to the scheduler
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: is_idle(asynchronous.scheduler))

    run(model, use)


@pytest.mark.parametrize("how", ["break", "with", "cancel"])
def test_a_stream_that_is_left_frees_its_place(model: Model, how: str) -> None:
    async def use(asynchronous: AsyncModel) -> None:
        if how == "break":
            async for _ in asynchronous.stream("in the", max_tokens=60, n=1000):
                break
            gc.collect()
        elif how == "with":
            async with asynchronous.stream("in the", max_tokens=60, n=1000) as stream:
                await stream.__anext__()
        else:
            stream = asynchronous.stream("in the", max_tokens=60, n=4)
            await stream.__anext__()
            stream.cancel()
            reasons = [done.finish_reason for done in await stream.collect()]
            assert set(reasons) <= {"cancelled", "stop", "length"}
        await until(lambda: is_idle(asynchronous.scheduler))

    run(model, use)


def test_one_model_serves_several_loops(model: Model) -> None:
    with Scheduler(model) as scheduler:
        asynchronous = AsyncModel(scheduler)
        results: list[Any] = [None] * 4

        async def use(k: int) -> None:
            for _ in range(3):
                results[k] = await asynchronous.generate(PROMPTS[k], max_tokens=10, seed=k)

        for _ in range(2):  # new loops, where the old ones are closed
            threads = [threading.Thread(target=asyncio.run, args=(use(k),)) for k in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == [model.generate(p, max_tokens=10, seed=k) for k, p in enumerate(PROMPTS)]


def test_errors_are_those_of_the_model(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> None:
        with pytest.raises(ContextOverflowError, match="leave no room"):
            await asynchronous.generate([1] * 1000)
        with pytest.raises(ValueError, match="must not be empty"):
            await asynchronous.generate("")
        with pytest.raises(TokenizerError):
            await asynchronous.chat([{"role": "user", "content": "a"}])
        with pytest.raises(TypeError, match="unknown option 'temprature'"):
            asynchronous.stream("a", temprature=1)
        with pytest.raises(ValueError, match="temperature must be"):
            await asynchronous.generate("a", temperature=-1)
        with pytest.raises(TypeError, match="client must be"):
            await asynchronous.generate("a", client=5)  # type: ignore[call-overload]

    run(model, use)
    with pytest.raises(TypeError, match="model must be of type Model or Scheduler"):
        AsyncModel("tiny")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError):
        asyncio.run(AsyncModel.load("no/such/model"))


def test_a_full_queue_is_overloaded(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> list[Any]:
        calls = [asynchronous.generate("in the", max_tokens=40) for _ in range(8)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with Scheduler(model, max_running=1, max_waiting=1) as scheduler:
        results = run(scheduler, use)
    assert any(isinstance(result, pygpt.Completion) for result in results)
    assert {type(result) for result in results} <= {pygpt.Completion, Overloaded}


def test_closing(model: Model) -> None:
    async def main() -> AsyncModel:
        asynchronous = await AsyncModel.load("tiny", threads=1)
        task = asyncio.create_task(asynchronous.generate("Once", max_tokens=400, n=1000))  # not done before it is seen
        await until(lambda: asynchronous.scheduler.stats().running > 0)
        await asynchronous.close()
        assert "cancelled" in [result.finish_reason for result in await task]
        with pytest.raises(Overloaded):
            await asynchronous.generate("Once")
        return asynchronous

    asyncio.run(main())
    with Scheduler(model) as scheduler:  # whoever made a scheduler closes it
        run(scheduler, lambda asynchronous: asynchronous.close())
        assert scheduler.generate("a", max_tokens=2)


def test_load_takes_what_the_model_s_does() -> None:
    async def main() -> None:
        async with await AsyncModel.load("tiny", weights="float32", threads=1) as asynchronous:
            assert asynchronous.model.weights == "float32"
            assert "tiny" in repr(asynchronous)

    asyncio.run(main())


def test_what_belongs_to_one_process_is_not_copied(model: Model) -> None:
    async def use(asynchronous: AsyncModel) -> None:
        with pytest.raises(TypeError, match="AsyncModel"):
            copy.copy(asynchronous)
        stream = asynchronous.stream("a", max_tokens=2)
        assert "1 of 1 sequences unfinished" in repr(stream)
        with pytest.raises(TypeError, match="AsyncStream"):
            copy.copy(stream)

    run(model, use)


def test_a_closed_loop_keeps_nothing_of_what_comes() -> None:
    loop = asyncio.new_event_loop()
    hub = Hub(loop)
    delivery = Delivery(hub, 1)
    delivery.on_pieces([])  # the loop is woken, and closed before it runs
    loop.close()
    delivery.on_pieces([])
    gone = weakref.ref(delivery)
    del delivery
    gc.collect()
    assert gone() is None
