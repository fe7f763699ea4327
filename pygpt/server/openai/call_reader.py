"""Calls of tools in what a model wrote: the ways that models were trained to write them, told from other text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pygpt.generation.text import overlap

_CLOSINGS: Mapping[str, str | None] = {  # by the mark that opens; None: a call goes up to the end of the text
    "<tool_call>": "</tool_call>",  # Hermes, Qwen, SmolLM3, Granite 3.3
    "<|tool_call|>": None,  # Granite 3
    "[TOOL_CALLS]": None,  # Mistral
    "<|python_tag|>": None,  # Llama 3
}
_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]")  # Mistral, since 2025


class ToolCall(NamedTuple):
    """A function that a model asks for."""

    name: str
    arguments: str  # JSON: a table


class ToolCallReader:
    """Takes a text apart as it comes. What looks like a call and is none stays text.

    A call stands between marks of one of the formats that are known here; or all of the text is one, as JSON, of a
    function that there is. It is JSON, {"name": ..., "arguments": {...}} or with "parameters", or a list of such.
    """

    def __init__(self, names: Collection[str]) -> None:
        """`names`: of the functions that there are."""
        self._names = names
        self._held = ""
        self._opening: str | None = None  # within what may be a call: its mark, or "" where all of the text is one
        self._is_begun = False  # whether anything was given
        self._is_after_call = False  # whitespace there is no text

    def feed(self, text: str) -> Iterator[str | ToolCall]:
        """What is certain by now."""
        self._held += text
        while True:
            if self._is_after_call:
                self._held = self._held.lstrip()
                self._is_after_call = not self._held
            if self._opening is None:
                begin = self._held.lstrip()
                is_json = not self._is_begun and begin[:1] in ("{", "[")
                if is_json and not any(mark.startswith(begin) or begin.startswith(mark) for mark in _CLOSINGS):
                    self._opening = ""
                    continue
                found = [(at, mark) for mark in _CLOSINGS if (at := self._held.find(mark)) >= 0]
                if not found:
                    yield from self._give(self._n_certain())
                    return
                at, self._opening = min(found)
                before, self._held = self._held[:at].rstrip(), self._held[at + len(self._opening) :]
                yield from self._said(before)
            closing = _CLOSINGS.get(self._opening)
            if closing is None or (at := self._held.find(closing)) < 0:
                return
            body, self._held = self._held[:at], self._held[at + len(closing) :]
            yield from self._taken(body, closing)

    def finish(self) -> Iterator[str | ToolCall]:
        """What was held back, once no more text comes."""
        if self._opening is None:
            yield from self._give(len(self._held))
            return
        body, self._held = self._held, ""
        yield from self._taken(body, "")

    def _taken(self, body: str, closing: str) -> Iterator[str | ToolCall]:
        """What a mark opened, as calls or as the text that it was."""
        opening, self._opening = self._opening or "", None
        calls = _calls(body)
        if calls and (opening or all(call.name in self._names for call in calls)):
            self._is_begun = self._is_after_call = True
            yield from calls
        else:
            yield from self._said(opening + body + closing)

    def _n_certain(self) -> int:
        """How many of the held characters no mark can begin with, nor whitespace before one."""
        n = len(self._held) - max(overlap(self._held, mark) for mark in _CLOSINGS)
        return len(self._held[:n].rstrip())

    def _give(self, n: int) -> Iterator[str]:
        text, self._held = self._held[:n], self._held[n:]
        yield from self._said(text)

    def _said(self, text: str) -> Iterator[str]:
        if text:
            self._is_begun = self._is_begun or bool(text.strip())
            yield text


def _calls(body: str) -> list[ToolCall]:
    """The calls that all of a text is; none: it is something else."""
    found: list[ToolCall] = []
    if named := _NAMED.match(body):
        values: list[object] = []
        while named is not None:
            value, end = _value(body[named.end() :])
            values.append({"name": named[1], "arguments": value})
            body = body[named.end() + end :].removeprefix("[TOOL_CALLS]")
            named = _NAMED.match(body)
    else:
        value, end = _value(body)
        values, body = value if isinstance(value, list) else [value], body[end:]
    for one in values:
        call = _call(one)
        if call is None or body.strip():
            return []
        found.append(call)
    return found


def _value(text: str) -> tuple[Any, int]:
    """The JSON that a text begins with, and where it ends."""
    begin = len(text) - len(text.lstrip())
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None, begin
    return value, end


def _call(value: object) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments: Any = next((value[key] for key in ("arguments", "parameters") if key in value), {})
    if isinstance(arguments, str):  # JSON within JSON
        arguments, _ = _value(arguments)
    if not isinstance(arguments, dict):
        return None
    return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False))


def read_tool_calls(text: str, names: Collection[str]) -> tuple[str, list[ToolCall]]:
    """A whole text: what is no call of a tool, and the calls."""
    reader = ToolCallReader(names)
    found: Iterable[str | ToolCall] = [*reader.feed(text), *reader.finish()]
    return "".join(one for one in found if isinstance(one, str)), [one for one in found if isinstance(one, ToolCall)]
