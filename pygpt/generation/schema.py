"""JSON schemas as a model is held to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_OPEN = {"additionalProperties", "patternProperties", "unevaluatedProperties", "anyOf", "oneOf", "$ref"}
_OF_TABLES = ("properties", "$defs", "definitions")  # of schemas by name
_OF_LISTS = ("anyOf", "oneOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties")


def closed_schema(text: str) -> str:
    """A schema in whose objects properties that it does not name are none, unless it says otherwise: a model would go
    on inventing some. Where allOf puts objects together it stays as it is: none of them names all properties."""
    return text if '"allOf"' in text else json.dumps(_closed(json.loads(text)))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    for key in _OF_TABLES:
        if isinstance(out.get(key), Mapping):
            out[key] = {name: _closed(part) for name, part in out[key].items()}
    for key in _OF_LISTS:
        if isinstance(out.get(key), list):
            out[key] = [_closed(part) for part in out[key]]
    for key in _OF_ONE:
        if key in out:
            out[key] = _closed(out[key])
    if out.get("properties") and not _OPEN & out.keys():
        out["additionalProperties"] = False
    return out
