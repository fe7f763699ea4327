"""Conversations whose answers have a form, after reasoning that has none; and calls of tools in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import pygpt
from pygpt import Chat, Model, Scheduler
from pygpt.generation.opening import Opening
from pygpt.generation.reasoning import FORMATS
from pygpt.generation.turn import Turn

END = "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|endoftext|>"
    "{% endfor %}a:"
)
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture
def thinker(speaker_folder: Callable[..., Path]) -> Callable[..., Model]:
    """A model that says given texts, by a template whose prompt begins the reasoning."""
    template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|endoftext|>{% endfor %}a:<think>{# </think> #}"
    return lambda *turns: Model.load(speaker_folder(*turns, template=template), threads=1)


def test_the_form_is_that_of_the_answer_after_reasoning(thinker: Callable[..., Model]) -> None:
    model = thinker((f"u:hi{END}a:<think>", "hm {5}</think>7"))
    chat = Chat(model, temperature=0, regex="[0-9]")
    reply = chat.send("hi")
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("hm {5}", "7", "stop")
    other = Chat(model, temperature=0, choices=["x"]).send("hi")
    assert (other.reasoning, other.text) == ("hm {5}", "x")
    with Scheduler(model) as scheduler:
        done = scheduler.chat([{"role": "user", "content": "hi"}], temperature=0, regex="[0-9]")
    assert isinstance(done, pygpt.Completion)
    assert done.text == "hm {5}</think>7"


def test_reasoning_does_not_end_the_text(thinker: Callable[..., Model]) -> None:
    """The model wants to end within it; it may not before there is an answer."""
    model = thinker((f"u:hi{END}a:<think>", "hm"))
    done = model.chat([{"role": "user", "content": "hi"}], temperature=0, regex="[0-9]", max_tokens=9)
    assert done.finish_reason == "length"
    assert done.text.startswith("hm")


class _Marks:
    """A tokenizer whose tokens are letters and a few marks."""

    special_tokens: ClassVar = {"<|channel|>": 1000, "<|message|>": 1001, "<|end|>": 1002, "<|start|>": 1003}

    def encode(self, text: str, **_: Any) -> list[int]:
        ids = []
        while text:
            mark = next((m for m in self.special_tokens if text.startswith(m)), text[0])
            ids.append(self.special_tokens.get(mark, ord(mark[0])))
            text = text[len(mark) :]
        return ids

    def stream(self, *, after: list[int]) -> _Marks:
        return self

    def push(self, token: int) -> str:
        return next((m for m, i in self.special_tokens.items() if i == token), None) or chr(token)


def follow(text: str) -> list[bool]:
    """Which tokens of a reply in OpenAI's harmony come before its answer, up to the first that does not."""
    tokenizer: Any = _Marks()
    opening = Opening(tokenizer, Turn("", np.zeros(1, np.int32), frozenset(), FORMATS[3]))
    found = []
    for token in tokenizer.encode(text):
        found.append(opening.accept(token))
        if not found[-1]:
            break
    return found


def test_marks_of_several_tokens_come_before_the_answer() -> None:
    before = "<|channel|>analysis<|message|>think {x}<|end|><|start|>assistant<|channel|>final<|message|>"
    assert follow(before + "{}") == [True] * len(_Marks().encode(before)) + [False]
    assert follow("{}") == [False]
    opening = Opening(_Marks(), Turn("", np.zeros(1, np.int32), frozenset(), FORMATS[3]))  # type: ignore[arg-type]
    assert {*opening.next_tokens()} == {1000}
    assert not opening.is_in_mark
    opening.accept(1000)
    assert opening.is_in_mark
    assert {*opening.next_tokens()} == {ord("a"), ord("c"), ord("f")}
    for token in _Marks().encode("final<|message|>"):
        assert opening.accept(token)
    assert {*opening.next_tokens()} == set()  # no mark comes after it
    assert not opening.is_in_mark
    assert not opening.is_free


def test_calls_of_tools_are_told_from_the_answer(speaker_folder: Callable[..., Path]) -> None:
    model = Model.load(speaker_folder((f"u:hi{END}a:", f"I look. {CALL}"), template=TEMPLATE), threads=1)
    chat = Chat(model, tools=TOOLS, temperature=0)
    stream = chat.stream("hi")
    assert "".join(section.text for section in stream) == "I look."
    assert stream.reply is not None
    (call,) = stream.reply.tool_calls
    assert (call.name, json.loads(call.arguments), stream.reply.text) == ("f", {"a": 1}, "I look.")
    said = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert chat.messages[-1] == {"role": "assistant", "content": "I look.", "tool_calls": [said]}
    plain = Chat(model, temperature=0).send("hi")
    assert (plain.tool_calls, plain.text) == ((), f"I look. {CALL}")  # there are no tools


def test_a_result_of_a_tool_is_read_with_its_call(speaker_folder: Callable[..., Path]) -> None:
    before = f'u:hi{END}a:<tool_call>{{"name": "f", "arguments": {{"a": 1}}}}</tool_call>{END}t:5{END}a:'
    model = Model.load(speaker_folder((f"u:hi{END}a:", CALL), (before, "five"), template=TEMPLATE), threads=1)
    chat = Chat(model, tools=TOOLS, temperature=0)
    assert chat.send("hi").text == ""
    assert chat.send({"role": "tool", "content": "5", "tool_call_id": "call00001"}).text == "five"
