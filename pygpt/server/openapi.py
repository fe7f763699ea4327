"""The OpenAPI description (https://spec.openapis.org/oas/v3.1.0) of the endpoints, from what they say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse, Response

import pygpt
from pygpt.server.call import Call
from pygpt.server.endpoint import Endpoint, endpoint
from pygpt.server.errors import ErrorBody

_Mode = Literal["validation", "serialization"]
_OF_FORMS = (400, 408, 413, 415, 429)  # what an endpoint with a body may answer
_OF_ALL = (500,)
_OF_CLOSED = (401, 403, 503)  # of those that need a key, and nothing new while the server stops


@endpoint("GET", "/openapi.json", is_open=True)
async def describe_api(call: Call) -> Response:
    """This description."""
    return JSONResponse(call.service.description())


def describe(endpoints: Sequence[Endpoint], models: Sequence[str]) -> dict[str, Any]:
    """The description as a JSON table. `models` are the names that a field `model` may have; none: unsaid."""
    schemas, definitions = models_json_schema(
        sorted({*_models(endpoints)}, key=lambda pair: (pair[0].__name__, pair[1])),
        ref_template="#/components/schemas/{model}",
    )
    components = definitions.get("$defs", {})
    for table in components.values():
        model = table.get("properties", {}).get("model", {})
        for kind in (model, *model.get("anyOf", ())):
            if models and kind.get("type") == "string":
                kind["enum"] = list(models)
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        path = re.sub(r":\w+\}", "}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pygpt", "version": pygpt.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(endpoints: Sequence[Endpoint]) -> Iterator[tuple[type[BaseModel], _Mode]]:
    yield ErrorBody, "serialization"
    for one in endpoints:
        if one.form is not None:
            yield one.form, "validation"
        for answer in (one.answer, one.event):
            if answer is not None:
                yield answer, "serialization"


def _operation(one: Endpoint, path: str, schemas: Mapping[tuple[Any, Any], Any]) -> dict[str, Any]:
    text = " ".join(one.description.split())
    statuses = {*_OF_ALL, *one.errors, *(_OF_FORMS if one.form else ()), *(() if one.is_open else _OF_CLOSED)}
    error = {"application/json": {"schema": schemas[ErrorBody, "serialization"] if one.error_body is None else {}}}
    operation: dict[str, Any] = {
        "operationId": one.handler.__name__,
        "summary": re.split(r"(?<=[.:]) ", text)[0].rstrip(".:"),
        "description": text,
        "responses": {
            "200": {"description": "The answer.", "content": _content(one, schemas)},
            **{str(s): {"description": HTTPStatus(s).phrase, "content": error} for s in sorted(statuses)},
        },
    }
    if not one.is_open:
        operation["security"] = [{"key": []}, {}]
    if one.form is not None:
        content = {"application/json": {"schema": schemas[one.form, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    if names := re.findall(r"\{(\w+)\}", path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return operation


def _content(one: Endpoint, schemas: Mapping[tuple[Any, Any], Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if one.answer is not None:
        content["application/json"] = {"schema": schemas[one.answer, "serialization"]}
    if one.event is not None:
        content[one.event_type] = {"schema": {"type": "string"}, "x-event": schemas[one.event, "serialization"]}
    return content or {"*/*": {}}


ROUTES = [describe_api]
