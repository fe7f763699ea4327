"""Keys, and what other websites may do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from pygpt.server.auth import Keys
from pygpt.server.errors import ApiError
from pygpt.server.settings import Settings

Serving = Callable[..., Any]


def check(keys: Keys, **headers: str) -> str | None:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return keys.check(Request({"type": "http", "headers": raw}))


def test_keys_of_settings_and_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\n\nfirst \nsecond\n")
    keys = Keys.of(Settings(models=["tiny"], api_key=["zero"], api_key_file=tmp_path / "keys"))
    assert check(keys, authorization="Bearer zero") == "key 1"
    assert check(keys, authorization="bearer first") == "key 2"
    assert check(keys, x_api_key="second") == "key 3"
    for wrong in ("Bearer firs", "Bearer", "Basic zero", "Bearer # ours", "Bearer \xe9"):
        with pytest.raises(ApiError, match="key") as error:
            check(keys, authorization=wrong)
        assert error.value.status == 401
    assert check(Keys(["Schlüssel à"]), authorization="Bearer Schlüssel à") == "key 1"
    assert check(Keys([])) is None


def test_keys_that_would_let_everyone_in_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    for settings in ({"api_key": [""]}, {"api_key_file": tmp_path / "keys"}):
        with pytest.raises(ValueError, match="api_key"):
            Keys.of(Settings(models=["tiny"], **settings))
    with pytest.raises(OSError, match="missing"):
        Keys.of(Settings(models=["tiny"], api_key_file=tmp_path / "missing"))


def test_what_needs_a_key(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> dict[str, int]:
        paths = ("/health", "/live", "/openapi.json", "/v1/models", "/v1/models/tiny", "/metrics")
        return {path: (await client.get(path)).status_code for path in paths}

    open_paths = {"/health": 200, "/live": 200, "/openapi.json": 200}
    assert serving(use, api_key=["k"]) == {**open_paths, "/v1/models": 401, "/v1/models/tiny": 401, "/metrics": 401}
    assert set(serving(use, api_key=["k"], headers={"authorization": "Bearer k"}).values()) == {200}


def test_a_server_of_the_loopback_knows_its_names(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> list[int]:
        names = ("server", "LocalHost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.9:80", "evil.example", "")
        return [(await client.get("/v1/models", headers={"host": name})).status_code for name in names]

    assert serving(use) == [403, 200, 200, 200, 200, 403, 403]
    assert serving(use, allowed_host=["Server"]) == [200, 200, 200, 200, 200, 403, 403]
    for settings in ({"allowed_host": ["*"]}, {"host": "0.0.0.0"}):
        assert set(serving(use, **settings)) == {200}
    assert set(serving(use, api_key=["k"])) == {401}


def test_other_websites_ask_only_if_told(serving: Serving) -> None:
    headers = {"origin": "https://chat.example", "access-control-request-method": "POST"}

    async def use(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        asked = {**headers, "access-control-request-headers": "authorization,content-type"}
        return await client.options("/v1/models", headers=asked), await client.get("/v1/models", headers=headers)

    for answer in serving(use):
        assert "access-control-allow-origin" not in answer.headers
    for answer in serving(use, cors_origin=["https://other.example"]):
        assert "access-control-allow-origin" not in answer.headers
    for answer in serving(use, cors_origin=["https://chat.example"]):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
