"""What comes in: how much of a wrong body is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import Field, ValidationError

from pygpt.server.endpoint import Form
from pygpt.server.errors import of_validation


class Item(Form):
    name: str


class Body(Form):
    ids: list[int] = Field([])
    items: list[Item] = Field([])
    either: list[str] | list[list[int]] | None = None
    table: dict[str, float] = Field({})


def told(text: str) -> tuple[str, str | None]:
    with pytest.raises(ValidationError) as error:
        Body.model_validate_json(text)
    found = of_validation(error.value)
    assert found.status == 400
    return str(found), found.body.error.param


@pytest.mark.parametrize(
    ("text", "message", "param"),
    [
        ('{"ids": [1, "2"]}', "ids.1: input should be a valid integer", "ids.1"),
        ('{"ids": [' + '"",' * 1000 + "1]}", "ids.0: input should be a valid integer", "ids.0"),
        ('{"items": [{"name": 1}, {"nam": "a"}]}', "items.0.name: input should be a valid string", "items.0.name"),
        ('{"itens": 1}', "unknown parameter: itens", "itens"),
        ('{"ids": [1.5]}', "ids.0: input should be a valid integer", "ids.0"),
        ('{"table": {"a": NaN}}', "table.a: input should be a finite number", "table.a"),
        ("{", "the body is not valid JSON: EOF while parsing an object at line 1 column 1", None),
        ("[" * 100_000, "the body is not valid JSON: recursion limit exceeded at line 1 column 202", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_first_mistake_is_told(text: str, message: str, param: str | None) -> None:
    assert told(text) == (message, param)


def test_a_hundred_thousand_mistakes_are_not_listed() -> None:
    unknown = ",".join(f'"a{i}": 1' for i in range(100_000))
    assert told(f"{{{unknown}}}") == ("the body has 100000 mistakes", None)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"items": [{"name": "a"}] * 10_001}),
        json.dumps({"either": [[]] * 10_001}),
        json.dumps({"table": {str(i): 1 for i in range(10_001)}}),
    ],
    ids=["items", "either", "table"],
)
def test_lists_and_tables_have_a_most(text: str) -> None:
    assert "at most 10000" in told(text)[0]


def test_token_ids_have_no_most() -> None:
    assert len(Body.model_validate_json('{"ids": [' + "1," * 50_000 + "1]}").ids) == 50_001


def test_the_description_says_so() -> None:
    fields: dict[str, Any] = Body.model_json_schema()["properties"]
    assert fields["items"]["maxItems"] == 10_000
    assert fields["table"]["maxProperties"] == 10_000
    assert "maxItems" not in fields["ids"]
