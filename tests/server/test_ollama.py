"""Ollama's endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pygpt import Model, __version__

Serving = Callable[..., Any]
OPTIONS = {"temperature": 0.5, "seed": 3, "num_predict": 8, "num_ctx": 2048}


def ask(serving: Serving, source: str, path: str, **body: Any) -> httpx.Response:
    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(path, json={"model": "m:latest", **body})

    found: httpx.Response = serving(use, f"m={source}")
    return found


@pytest.fixture
def thinker(speaker_folder: Callable[..., Path]) -> Path:
    """Thinks before it answers "hi"."""
    return speaker_folder(("u:hi<|endoftext|>a:", "<think>Hm.</think>Yes"))


def test_a_prompt_goes_on(serving: Serving) -> None:
    expected = Model.load("tiny", threads=1).generate("Once", temperature=0.5, seed=3, max_tokens=8)
    whole = ask(serving, "tiny", "/api/generate", prompt="Once", stream=False, options=OPTIONS).json()
    assert whole["response"] == expected.text
    assert (whole["done"], whole["done_reason"], whole["eval_count"]) == (True, "length", 8)
    lines = ask(serving, "tiny", "/api/generate", prompt="Once", options=OPTIONS).text.splitlines()
    parts = [json.loads(line) for line in lines]
    assert "".join(part["response"] for part in parts) == expected.text
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]


@pytest.mark.parametrize(
    "browser", [{}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"referer": "http://a.example/"}], ids=str
)
def test_programs_need_not_say_that_a_body_is_json(serving: Serving, browser: dict[str, str]) -> None:
    """As `curl -d` sends it; what a page of another website makes a browser send is refused."""
    body = json.dumps({"model": "m", "prompt": "Once", "stream": False, "options": OPTIONS}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", **browser}

    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/api/generate", content=body, headers=headers)

    found: httpx.Response = serving(use, "m=tiny")
    assert found.status_code == (415 if browser else 200), found.text


def test_a_conversation(serving: Serving, thinker: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    whole = ask(serving, str(thinker), "/api/chat", messages=messages, stream=False).json()
    assert whole["message"] == {"role": "assistant", "content": "Yes", "thinking": "Hm."}
    response = ask(serving, str(thinker), "/api/chat", messages=messages)
    assert response.headers["content-type"].startswith("application/x-ndjson")
    parts = [json.loads(line)["message"] for line in response.text.splitlines()]
    assert "".join(part["content"] for part in parts) == "Yes"
    assert "".join(part.get("thinking", "") for part in parts) == "Hm."
    answered = ask(serving, str(thinker), "/api/generate", prompt="hi", stream=False).json()
    assert (answered["response"], answered["thinking"]) == ("Yes", "Hm.")


def test_tags_and_version(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> list[Any]:
        return [(await client.get(path)).json() for path in ("/api/tags", "/api/version")]

    tags, version = serving(use, "small=tiny", "tiny")
    assert [one["name"] for one in tags["models"]] == ["small", "tiny"]
    assert version == {"version": __version__}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/api/generate", {"prompt": "a", "options": {"mirostat": 1}}, "unknown parameter: options.mirostat"),
        ("/api/generate", {"prompt": "a", "images": ["x"]}, "unknown parameter: images"),
        ("/api/generate", {"prompt": "a", "options": {"temperature": -1}}, "temperature must be"),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}, "no chat template"),
    ],
)
def test_errors_are_told_as_ollama_does(serving: Serving, path: str, body: dict[str, Any], message: str) -> None:
    response = ask(serving, "tiny", path, **body)
    assert response.status_code == 400
    assert message in response.json()["error"]
