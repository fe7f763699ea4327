"""/openapi.json says what the endpoints take and give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from pygpt.server.app import ROUTES
from pygpt.server.endpoint import Endpoint


def test_every_endpoint_is_described(serving: Callable[..., Any]) -> None:
    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/openapi.json")

    table = serving(use).json()
    assert table["openapi"].startswith("3.1")
    for route in ROUTES:
        if isinstance(route, Endpoint):
            found = table["paths"][route.path.replace(":path}", "}")][route.method.lower()]
            assert found["summary"]
            assert ("requestBody" in found) == (route.form is not None)
            assert {str(status) for status in route.errors} < set(found["responses"])
    assert table["components"]["schemas"]["CompletionForm"]["properties"]["model"]["enum"] == ["tiny"]
    names = set(table["components"]["schemas"])
    assert {"ErrorBody", "ModelList", "Health"} <= names
    assert references(table) <= {f"#/components/schemas/{name}" for name in names}


def test_models_are_named_to_those_with_a_key_alone(serving: Callable[..., Any]) -> None:
    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/openapi.json")

    table = serving(use, api_key=["secret"]).json()
    assert table["components"]["schemas"]["CompletionForm"]["properties"]["model"]["type"] == "string"
    assert "tiny" not in str(table)


def references(value: Any) -> set[str]:
    """All that a table refers to."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()
