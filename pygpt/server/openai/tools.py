"""Tools that a model may call, or must."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pygpt.generation import Turn
from pygpt.server.errors import bad_request
from pygpt.server.openai.answers import dump
from pygpt.server.openai.messages import Function, NamedFunction
from pygpt.server.openai.speech import CallReader
from pygpt.tool_calls import ToolCall

_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


class Tooling(NamedTuple):
    """What the tools of a request come to."""

    layout: Sequence[Mapping[str, Any]] | None = None  # for the chat template
    options: Mapping[str, Any] = {}  # of SamplingParams: what a call that must be has to look like
    reader: Callable[[Turn | None], CallReader | None] = lambda turn: None  # of what the model writes


def tooling(
    tools: Sequence[Function] | None, choice: str | NamedFunction | None, options: Mapping[str, Any]
) -> Tooling:
    """choice: "auto", "none", "required", or what names the one to call. options: of what the answer must look like
    anyway.

    A call that must be is held to JSON with the schema of its arguments, whatever the model's own way to write calls
    is. ApiError: a choice that cannot be.
    """
    if choice == "none" or not tools:
        if choice not in (None, "none", "auto"):
            raise bad_request("tool_choice needs tools", param="tool_choice")
        return Tooling()
    layout = [tool.plain() for tool in tools]
    if choice in (None, "auto"):
        return Tooling(layout) if options else Tooling(layout, {}, read_calls)
    if options:
        raise bad_request("tool_choice must be auto or none where the answer must have a form", param="tool_choice")
    if choice == "required":
        return Tooling(layout, {"json_schema": _any_call(tools)}, lambda turn: _AnyCall())
    name = choice.name if isinstance(choice, NamedFunction) else str(choice)
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        raise bad_request(f"tool_choice names {name!r:.80}, which is none of the tools", param="tool_choice")
    return Tooling(layout, {"json_schema": tool.parameters or _NO_ARGUMENTS}, lambda turn: _CallOf(name))


def read_calls(turn: Turn | None) -> CallReader | None:
    """Reads calls as the turn's template has the model write them; None: it was given no tools."""
    return None if turn is None else turn.call_splitter()


def _any_call(tools: Sequence[Function]) -> dict[str, Any]:
    """The schema of a call of one of them."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.name},
                    "arguments": _moved(tool.parameters or _NO_ARGUMENTS, f"#/anyOf/{i}/properties/arguments"),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for i, tool in enumerate(tools)
        ]
    }


def _moved(schema: Any, place: str) -> Any:
    """A schema that stands at this place of another: its references say so."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: place + part[1:]
        if key == "$ref" and isinstance(part, str) and part.startswith("#")
        else _moved(part, place)
        for key, part in schema.items()
    }


class _CallOf:
    """All of the text is the arguments of one function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._texts: list[str] = []

    def feed(self, text: str) -> Iterable[str | ToolCall]:
        self._texts.append(text)
        return ()

    def finish(self) -> Iterable[str | ToolCall]:
        return (ToolCall(self._name, "".join(self._texts)),)


class _AnyCall:
    """All of the text is a call, as JSON."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def feed(self, text: str) -> Iterable[str | ToolCall]:
        self._texts.append(text)
        return ()

    def finish(self) -> Iterator[str | ToolCall]:
        text = "".join(self._texts)
        try:
            call = json.loads(text)
            yield ToolCall(call["name"], dump(call["arguments"]))
        except (ValueError, KeyError, TypeError, RecursionError):  # cut short, or very deep
            yield text
