"""The server's own limits, as the endpoints keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
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
