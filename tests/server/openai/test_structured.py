"""Answers that must have a form: `response_format`, `text.format`, and pygpt's own fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest

from pygpt import Model

Refused = Callable[..., openai.BadRequestError]
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}, "n": {"enum": [1, 2]}},
    "required": ["color", "n"],
    "additionalProperties": False,
}


def check(text: str | None) -> None:
    table = json.loads(text or "")
    assert table["color"] in ("red", "blue")
    assert table["n"] in (1, 2)


class Picked(pydantic.BaseModel):
    """As an application describes what it wants."""

    color: str = pydantic.Field(pattern="^(red|blue)$")


def test_a_schema_in_chat(roomy: openai.OpenAI, roomy_folder: Path) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}
    asked = roomy.chat.completions.create(model="chat", messages=MESSAGES, response_format=form, seed=1)
    check(asked.choices[0].message.content)
    assert asked.choices[0].finish_reason == "stop"
    done = Model.load(roomy_folder, threads=1).chat(MESSAGES, json_schema=SCHEMA, seed=1, temperature=1.0, top_p=None)
    assert asked.choices[0].message.content == done.text
    chunks = roomy.chat.completions.create(model="chat", messages=MESSAGES, response_format=form, seed=1, stream=True)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == done.text


def test_a_pydantic_model_in_chat_and_responses(roomy: openai.OpenAI) -> None:
    asked = roomy.chat.completions.parse(model="chat", messages=MESSAGES, response_format=Picked)
    assert isinstance(asked.choices[0].message.parsed, Picked)
    response = roomy.responses.parse(model="chat", input="Hi", text_format=Picked)
    assert isinstance(response.output_parsed, Picked)


def test_a_schema_in_responses(roomy: openai.OpenAI) -> None:
    text: Any = {"format": {"type": "json_schema", "name": "it", "schema": SCHEMA}}
    response = roomy.responses.create(model="chat", input="Hi", text=text)
    check(response.output_text)
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"choices": ["yes", "no"]}, ["yes", "no"]),
        ({"regex": "a(b|c)d"}, ["abd", "acd"]),
        ({"grammar": 'start: "x" | "yy"'}, ["x", "yy"]),
        ({"json_schema": {"const": 5}}, ["5"]),
    ],
    ids=str,
)
def test_own_fields(roomy: openai.OpenAI, body: dict[str, Any], allowed: list[str]) -> None:
    asked = roomy.completions.create(model="chat", prompt="a", n=4, extra_body=body)
    assert {choice.text for choice in asked.choices} <= set(allowed)
    answered = roomy.chat.completions.create(model="chat", messages=MESSAGES, extra_body=body)
    assert answered.choices[0].message.content in allowed


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format", "go together"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_object'"),
        ({"regex": "("}, "regex", "refused"),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "response_format", "exclude each other"),
        ({"grammar": "x"}, "grammar", "refused"),
        ({"json_schema": {"type": "cow"}}, "json_schema", "refused"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "cow"}}}},
            "response_format",
            "refused",
        ),
    ],
    ids=str,
)
def test_forms_that_are_refused(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/chat/completions", model="chat", messages=MESSAGES, **body)
    assert error.param == param
    assert message in error.message
