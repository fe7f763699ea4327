"""The server itself: health, models, paths that are not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

Serving = Callable[..., Any]


def test_health_and_models(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(path) for path in ("/health", "/live", "/v1/models", "/v1/models/small")]

    health, live, models, model = serving(use, "small=tiny", "tiny")
    assert health.json() == {"status": "ok"}
    assert live.json() == {"status": "alive"}
    assert [one["id"] for one in models.json()["data"]] == ["small", "tiny"]
    assert model.json() == models.json()["data"][0]
    assert model.json()["object"] == "model"
    assert (model.json()["max_model_len"], model.json()["has_chat_template"]) == (512, False)


def test_what_is_not_there_is_told_in_openais_form(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/v1/models/gpt-9"), await client.get("/nope"), await client.post("/health")]

    unknown, path, method = serving(use)
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    assert unknown.json()["error"]["param"] == "model"
    assert path.status_code == 404
    assert "GET /nope" in path.json()["error"]["message"]
    assert method.status_code == 405
    assert "GET" in method.headers["allow"]
    assert set(method.json()["error"]) == {"message", "type", "param", "code"}
