"""The server's own limits, as the endpoints keep them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pydantic
import pytest

Serving = Callable[..., Any]


def ask(serving: Serving, body: dict[str, Any], **settings: Any) -> httpx.Response:
    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/completions", json={"model": "tiny", "prompt": "Once", **body})

    found: httpx.Response = serving(use, **settings)
    return found


@pytest.mark.parametrize(("body", "n"), [({}, 5), ({"max_tokens": 4}, 4), ({"max_tokens": 5}, 5)])
def test_new_tokens_have_a_limit(serving: Serving, body: dict[str, Any], n: int) -> None:
    answer = ask(serving, {"temperature": 0, **body}, max_tokens=5).json()
    assert answer["usage"]["completion_tokens"] == n


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"max_tokens": 6}, "max_tokens", "at most 5 on this server, not 6"),
        ({"n": 4}, "n", "n = 4 is more than the 3"),
        ({"n": 2, "prompt": ["a", "b"]}, "n", "2 prompts, 2 times each, is more than the 3"),
        ({"prompt": ["a"] * 4}, "prompt", "at most 3 entries"),
    ],
)
def test_more_is_refused(serving: Serving, body: dict[str, Any], param: str, message: str) -> None:
    error = ask(serving, body, max_tokens=5, max_sequences=3).json()["error"]
    assert error["param"] == param
    assert message in error["message"]


def test_an_echo_has_to_fit_the_context(serving: Serving) -> None:
    """Else two megabytes, n times, would be an answer of hundreds."""
    error = ask(serving, {"prompt": "a b " * 400, "echo": True, "max_tokens": 0, "n": 128}).json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": [[], *[[5] * 200] * 100]}),
        ("/v1/completions", {"prompt": [[], *[[5] * 200] * 100], "echo": True, "logprobs": 1, "max_tokens": 0}),
    ],
)
def test_of_a_request_that_is_refused_nothing_is_read(serving: Serving, path: str, body: dict[str, Any]) -> None:
    """Its other texts are not read for nobody."""

    async def use(client: httpx.AsyncClient) -> tuple[int, int]:
        answer = await client.post(path, json={"model": "tiny", **body})
        n_read, n_idle = 0, 0
        while n_idle < 20:
            counts = (await client.get("/metrics")).text
            found = {
                name: int(float(n)) for name, n in re.findall(r'pygpt_scheduler_(\w+)\{model="tiny"\} (\S+)', counts)
            }
            n_read = found["read_tokens_total"]
            n_idle = 0 if found["waiting"] or found["running"] else n_idle + 1
            await asyncio.sleep(0.01)
        return answer.status_code, n_read

    status, n_read = serving(use)
    assert status == 400
    assert n_read < 100 * 200 / 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Once", "max_tokens": 2, "n": 3, "logprobs": 2}),
        ("/v1/embeddings", {"input": ["a", "b", "c"]}),
    ],
)
def test_what_may_be_large_is_not_written_on_the_event_loop(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    written: list[tuple[str, bool]] = []
    dump = pydantic.BaseModel.model_dump_json

    def dumping(self: pydantic.BaseModel, **options: Any) -> str:
        written.append((type(self).__name__, threading.current_thread() is threading.main_thread()))
        return dump(self, **options)

    async def use(client: httpx.AsyncClient) -> Any:
        monkeypatch.setattr(pydantic.BaseModel, "model_dump_json", dumping)
        return (await client.post(path, json={"model": "tiny", **body})).json()

    answer = serving(use)
    assert [one["index"] for one in answer.get("choices", answer.get("data"))] == [0, 1, 2]
    assert len(written) == 4  # each of the three, and what is around them
    assert not any(is_loop for _, is_loop in written)
