"""Calls of tools, through OpenAI's own roomy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from pygpt.server.openai.messages import plain_call

Refused = Callable[..., openai.BadRequestError]
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def function(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"name": name, "parameters": parameters}


LIGHT = function("light", state={"enum": ["on", "off"]})
HEAT = function("heat", degrees={"$ref": "#/$defs/degrees"})
HEAT["parameters"]["$defs"] = {"degrees": {"enum": [18, 21]}}
TOOLS: Any = [{"type": "function", "function": one} for one in (LIGHT, HEAT)]
ARGUMENTS = {"light": [{"state": "on"}, {"state": "off"}], "heat": [{"degrees": 18}, {"degrees": 21}]}


@pytest.mark.parametrize("name", ["light", "heat"])
def test_a_function_that_must_be_called(roomy: openai.OpenAI, name: str) -> None:
    choice: Any = {"type": "function", "function": {"name": name}}
    asked = roomy.chat.completions.create(model="chat", messages=MESSAGES, tools=TOOLS, tool_choice=choice, n=2)
    for one in asked.choices:
        assert one.finish_reason == "tool_calls"
        assert one.message.content is None
        (call,) = one.message.tool_calls or ()
        assert call.type == "function"
        assert call.function.name == name
        assert json.loads(call.function.arguments) in ARGUMENTS[name]
        assert call.id.startswith("call_")


def test_one_of_the_functions_must_be_called(roomy: openai.OpenAI) -> None:
    ask: Any = {"model": "chat", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required"}
    for seed in range(4):
        whole = roomy.chat.completions.create(**ask, seed=seed).choices[0]
        (call,) = whole.message.tool_calls or ()
        assert call.type == "function"
        assert json.loads(call.function.arguments) in ARGUMENTS[call.function.name]
        chunks: Any = roomy.chat.completions.create(**ask, seed=seed, stream=True)
        choices = [choice for chunk in chunks for choice in chunk.choices]
        (delta,) = [one for choice in choices for one in choice.delta.tool_calls or ()]
        assert (delta.index, delta.type) == (0, "function")
        assert delta.function.model_dump() == call.function.model_dump()
        assert choices[-1].finish_reason == whole.finish_reason == "tool_calls"


def test_calls_are_items_of_a_response(roomy: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "strict": True, **one} for one in (LIGHT, HEAT)]
    choice: Any = {"type": "function", "name": "light"}
    response = roomy.responses.create(model="chat", input="Hi", tools=tools, tool_choice=choice)
    (item,) = response.output
    assert item.type == "function_call"
    assert item.name == "light"
    assert json.loads(item.arguments) in ARGUMENTS["light"]
    events = roomy.responses.create(model="chat", input="Hi", tools=tools, tool_choice=choice, stream=True)
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_conversation_with_calls_goes_on(roomy: openai.OpenAI) -> None:
    """What an answer brought can be sent back as it is."""
    ask: Any = {"model": "chat", "tools": TOOLS}
    first = roomy.chat.completions.create(messages=MESSAGES, tool_choice="required", **ask).choices[0].message
    call = (first.tool_calls or ())[0]
    messages: Any = [*MESSAGES, first, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    assert roomy.chat.completions.create(messages=messages, tool_choice="none", max_tokens=4, **ask).choices
    tools: Any = [{"type": "function", **LIGHT}]
    response = roomy.responses.create(model="chat", input="Hi", tools=tools, tool_choice="required")
    answered = {"type": "function_call_output", "call_id": response.output[0].call_id, "output": "done"}  # type: ignore[union-attr]
    items: Any = [{"role": "user", "content": "Hi"}, *response.output, answered]
    again = roomy.responses.create(model="chat", input=items, tools=tools, tool_choice="none", max_output_tokens=4)
    assert again.output[-1].type == "message"


def test_calls_in_the_models_own_words(speaker_folder: Callable[..., Path], serve: Callable[..., Any]) -> None:
    said = 'Well.<tool_call>{"name": "light", "arguments": {"state": "on"}}</tool_call>'
    folder = speaker_folder(("u:hi<|endoftext|>a:", said))
    ask: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with serve(f"m={folder}") as (url, _), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = client.chat.completions.create(tools=TOOLS, **ask).choices[0]
        chunks: Any = client.chat.completions.create(tools=TOOLS, stream=True, **ask)
        choices = [choice for chunk in chunks for choice in chunk.choices]
        plain = client.chat.completions.create(tools=TOOLS, tool_choice="none", **ask).choices[0]
        told = httpx.post(f"{url}/api/chat", json={**ask, "tools": TOOLS, "stream": False}).json()["message"]
    assert (whole.message.content, whole.finish_reason) == ("Well.", "tool_calls")
    (call,) = whole.message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("light", {"state": "on"})
    assert "".join(choice.delta.content or "" for choice in choices) == "Well."
    (delta,) = [one for choice in choices for one in choice.delta.tool_calls or ()]
    assert delta.function.model_dump() == call.function.model_dump()
    assert (plain.message.content, plain.message.tool_calls, plain.finish_reason) == (said, None, "stop")
    assert told["content"] == "Well."
    assert told["tool_calls"][0]["function"] == {"name": "light", "arguments": {"state": "on"}}


REQUIRED = {"tool_choice": "required"}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (REQUIRED, "tool_choice", "needs tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "none of the",
        ),
        (
            {"tools": TOOLS, "tool_choice": "required", "response_format": {"type": "json_object"}},
            "tool_choice",
            "auto or none",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "nope"}}}], **REQUIRED},
            "tools",
            "Invalid type: nope",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type", "'function'"),
    ],
)
def test_choices_that_cannot_be(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/chat/completions", model="chat", messages=MESSAGES, **body)
    assert error.param == param
    assert message in error.message


@pytest.mark.parametrize("arguments", [pytest.param("[" * 100_000, id="deep"), "{", "3"])
def test_arguments_that_are_no_table_stay_the_text_that_they_are(arguments: str) -> None:
    assert plain_call(None, "light", arguments)["function"] == {"name": "light", "arguments": arguments}
