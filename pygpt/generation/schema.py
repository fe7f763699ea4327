"""JSON schemas as a model is held to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_OPEN = {"additionalProperties", "patternProperties", "unevaluatedProperties", "anyOf", "oneOf", "$ref"}
_OF_TABLES = ("properties", "$defs", "definitions")  # of schemas by name
_OF_LISTS = ("anyOf", "oneOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties")


_APPLIED = {"allOf", "anyOf", "oneOf", "$ref"}  # other schemas, for the same value
_SAY_NOTHING = {
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "type",
}
_MOST_PATTERNS = 8
_MOST_MULTIPLE = 100_000


def check_cost(text: str) -> None:
    """ValueError: a schema on which llguidance may spend hours and all memory, whatever limits it is given: it makes
    each pattern that a text has to match together with others an automaton with all of theirs, which doubles with each
    of them; and multiples, one with as many states as the number says."""
    patterns: set[str] = set()
    is_joined = False
    rest = [json.loads(text)]
    while rest:
        part = rest.pop()
        rest += part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
        if not isinstance(part, Mapping):
            continue
        patterns |= {f"{key} {part[key]}" for key in ("pattern", "format") if isinstance(part.get(key), str)}
        multiple = part.get("multipleOf")
        if isinstance(multiple, (int, float)) and _coefficient(multiple) > _MOST_MULTIPLE:
            raise ValueError(
                f"multipleOf must be at most {_MOST_MULTIPLE}, without its decimal point: {multiple!r:.40}"
            )
        applied = _APPLIED & part.keys()
        several = isinstance(part.get("allOf"), list) and len(part["allOf"]) > 1
        is_joined |= several or len(applied) > 1 or bool(applied and part.keys() - applied - _SAY_NOTHING)
    if is_joined and len(patterns) > _MOST_PATTERNS:
        raise ValueError(
            f"its {len(patterns)} patterns and formats are more than the {_MOST_PATTERNS} that a schema may have in "
            "which a text may have to match several (allOf, or $ref, anyOf and oneOf beside other constraints)"
        )


def _coefficient(number: float) -> int:
    """The digits of a number as an integer: of 0.25, 25."""
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    n: int = int("".join(map(str, digits))) * 10 ** min(max(int(exponent), 0), 20)
    return abs(n)


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
