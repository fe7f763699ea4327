"""Models by name: loaded on demand, one after the other, within a limit of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pygpt import Model
from pygpt.errors import CheckpointError
from pygpt.server.errors import ApiError
from pygpt.server.models import Models
from pygpt.server.settings import GIB, Settings, named_sources


def models_of(*models: str, **settings: Any) -> Models:
    return Models(Settings(models=models, threads=1, **settings))


def loaded(models: Models) -> list[str]:
    return [entry.name for entry in models.loaded]


@pytest.fixture(scope="module")
def one_and_a_half() -> float:
    """GiB that hold one model of "tiny"."""
    return 1.5 * Model.load("tiny", threads=1).weight_bytes / GIB


def test_names() -> None:
    assert named_sources(["tiny", "a=tiny", "org/name:Q4"]) == {
        "tiny": "tiny",
        "a": "tiny",
        "org/name:Q4": "org/name:Q4",
    }
    for wrong in (["tiny", "tiny"], ["=tiny"], ["a="], [""]):
        with pytest.raises(ValueError, match="model"):
            named_sources(wrong)
    with pytest.raises(CheckpointError, match="no-such"):
        models_of("no-such-model")


def test_names_of_paths(tmp_path: Path) -> None:
    (tmp_path / "small.v2.gguf").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "a=b").mkdir()
    paths = [str(tmp_path / name) for name in ("small.v2.gguf", "folder", "a=b")]
    assert list(named_sources(paths)) == ["small.v2", "folder", "a=b"]


def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    async def main() -> None:
        models = models_of("a=tiny", "b=tiny")
        found = await asyncio.gather(*(models.acquire(name) for name in "abab"))
        assert found[0] is found[2]
        assert found[1] is found[3]
        assert found[0].model is not found[1].model
        assert sorted(loaded(models)) == ["a", "b"]
        await models.close()

    asyncio.run(main())


def test_who_goes_away_takes_the_load_from_nobody_else() -> None:
    async def main() -> None:
        models = models_of("a=tiny")
        first, second = (asyncio.create_task(models.acquire("a")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).name == "a"
        assert first.cancelled()
        await models.close()

    asyncio.run(main())


def test_the_one_longest_out_of_use_leaves_first(one_and_a_half: float) -> None:
    async def main() -> None:
        models = models_of("a=tiny", "b=tiny", "c=tiny", model_memory=one_and_a_half / 1.5 * 2.5)
        for name in "abab":
            models.release(await models.acquire(name))
        models.release(await models.acquire("a"))
        c = await models.acquire("c")
        assert loaded(models) == ["a", "c"]
        models.release(await models.acquire("b"))
        assert loaded(models) == ["c", "b"]  # c is in use
        models.release(c)
        await models.close()

    asyncio.run(main())


def test_a_model_in_use_stays(one_and_a_half: float) -> None:
    async def main() -> None:
        models = models_of("a=tiny", "b=tiny", model_memory=one_and_a_half)
        a = await models.acquire("a")
        with pytest.raises(ApiError, match="no memory for the model 'b' while others answer: a") as error:
            await models.acquire("b")
        assert error.value.status == 503
        models.release(a)
        assert (await models.acquire("b")).name == "b"
        await models.close()

    asyncio.run(main())


def test_a_model_that_can_never_fit_is_refused(one_and_a_half: float) -> None:
    async def main() -> None:
        models = models_of("a=tiny", model_memory=one_and_a_half / 3)
        with pytest.raises(ApiError, match=r"the model 'a' needs 0\.01 GiB, and all may have 0\.00"):
            await models.acquire("a")
        await models.close()

    asyncio.run(main())


def test_a_model_that_cannot_be_loaded_is_told_without_its_path(
    serving: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text("{")

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        body = {"model": "broken", "prompt": "a", "max_tokens": 1}
        return [await client.post("/v1/completions", json={**body, "model": name}) for name in ("broken", "tiny")]

    broken, good = serving(use, "tiny", f"broken={tmp_path}")
    message = "the model 'broken' cannot be loaded; the server's log says why"
    assert (broken.status_code, broken.json()["error"]["message"]) == (500, message)
    assert good.status_code == 200
    assert str(tmp_path) in caplog.text


def test_nothing_is_loaded_once_it_is_closed() -> None:
    async def main() -> None:
        models = models_of("a=tiny", "b=tiny")
        entry = await models.acquire("a")
        await models.close()
        with pytest.raises(ApiError, match="stops"):
            await models.acquire("b")
        assert entry.scheduler.stats().running == 0

    asyncio.run(main())
