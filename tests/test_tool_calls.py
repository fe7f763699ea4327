"""Calls of tools are told from text, however it is cut into pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pygpt.tool_calls import FORMATS, CallFormat, CallSplitter, ToolCall, find_format

TEMPLATES = Path(__file__).with_name("data") / "templates"
HARMONY, MISTRAL, DEEPSEEK, HERMES, PHI, LLAMA, GEMMA = FORMATS
CALL = {"name": "f", "arguments": {"a": 1}}
F = ("f", {"a": 1})
NAMES = {"f"}
HERMES_CALL = f"<tool_call>{json.dumps(CALL)}</tool_call>"
DEEP = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"


def split(form: CallFormat, pieces: list[str]) -> list[Any]:
    """Texts, joined where one follows another, and calls."""
    splitter = CallSplitter(form, NAMES)
    found: list[Any] = []
    for part in [*(p for piece in pieces for p in splitter.feed(piece)), *splitter.finish()]:
        if isinstance(part, ToolCall):
            found.append((part.name, json.loads(part.arguments)))
        elif found and isinstance(found[-1], str):
            found[-1] += part
        else:
            assert part
            found.append(part)
    return found


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (HERMES, "", []),
        (HERMES, " No calls here. ", [" No calls here. "]),
        (HERMES, f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>", [F]),
        (
            HERMES,
            f"I look.\n\n<tool_call>{json.dumps(CALL)}</tool_call>\n<tool_call>{json.dumps(CALL)}",
            ["I look.", F, F],
        ),
        (HERMES, f"{HERMES_CALL}\n Done.", [F, "Done."]),
        (
            HERMES,
            '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
            [("f", {"a": "</tool_call>"})],
        ),
        (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [F]),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "é\\u00e9"}}</tool_call>', [("f", {"a": "éé"})]),
        (HERMES, 'a <tool_call>{"name": "f"}</tool_call> b', ['a <tool_call>{"name": "f"}</tool_call> b']),
        (HERMES, 'a <tool_call>{"name": "f", "argum', ['a <tool_call>{"name": "f", "argum']),
        (
            HERMES,
            '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
            ['<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'],
        ),
        (HERMES, "<tool_call>" + "[" * 9999, ["<tool_call>" + "[" * 9999]),
        (HERMES, '{\n  "name": "f", "arguments": {"a": 1}}', [F]),
        (HERMES, ' \n[{"name": "f", "arguments": {"a": 1}}]', [F]),
        (HERMES, '{"name": "other", "arguments": {}}', ['{"name": "other", "arguments": {}}']),
        (HERMES, f"<tool_call>[{json.dumps(CALL)}, {json.dumps(CALL)}]</tool_call>", [F, F]),
        (HERMES, HERMES_CALL.replace("}}", "}} and more"), [HERMES_CALL.replace("}}", "}} and more")]),
        (HERMES, ' {"name": "f"}', [' {"name": "f"}']),
        (HERMES, 'So {"name": "f", "arguments": {}}', ['So {"name": "f", "arguments": {}}']),
        (HERMES, "a < b <tool", ["a < b <tool"]),
        (PHI, '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]<|/tool_call|>', [F]),
        (PHI, '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]', [F]),
        (LLAMA, '{"name": "f", "parameters": {"a": 1}}', [F]),
        (
            LLAMA,
            '\n{"name": "f", "parameters": {"a": 1}}; {"type": "function", "name": "f", "parameters": {"a": 1}}',
            [F, F],
        ),
        (LLAMA, '<|python_tag|>{"name": "f", "parameters": {"a": 1}}', [F]),
        (LLAMA, '{"answer": 42}', ['{"answer": 42}']),
        (LLAMA, 'Look: {"name": "f", "parameters": {"a": 1}}', ['Look: {"name": "f", "parameters": {"a": 1}}']),
        (LLAMA, "<|python_tag|>print(1)", ["<|python_tag|>print(1)"]),
        (MISTRAL, f"[TOOL_CALLS][{json.dumps(CALL | {'id': 'abcdefghi'})}, {json.dumps(CALL)}]", [F, F]),
        (MISTRAL, 'So: [TOOL_CALLS]f[CALL_ID]abc[ARGS]{"a": 1}[TOOL_CALLS]f{"a": 1}', ["So:", F, F]),
        (MISTRAL, "[TOOL_CALLS]nothing", ["[TOOL_CALLS]nothing"]),
        (HARMONY, ' to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>', [F]),
        (HARMONY, '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}', [F]),
        (HARMONY, "to=functions.f<|channel|>comm", ["to=functions.f<|channel|>comm"]),
        (HARMONY, "Just text to=functions.f", ["Just text to=functions.f"]),
        (DEEPSEEK, "Hm. " + DEEP.format('function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```'), ["Hm.", F]),
        (DEEPSEEK, DEEP.format('f<｜tool▁sep｜>{"a": 1}'), [F]),
        (DEEPSEEK, DEEP.format("f"), [DEEP.format("f")]),
        (GEMMA, "Wait.\n```tool_code\n[f(a=1), m.g(b=[1, 'x'])]\n```", ["Wait.", F, ("m.g", {"b": [1, "x"]})]),
        (GEMMA, "```tool_code\nf(1)\n```", ["```tool_code\nf(1)\n```"]),
        (GEMMA, "```tool_code\nf(a=g())\n``` x", ["```tool_code\nf(a=g())\n``` x"]),
        (GEMMA, "```python\nx\n```", ["```python\nx\n```"]),
        (GEMMA, "```tool_code\nf(a='```', b='\\'```')\n```", [("f", {"a": "```", "b": "'```"})]),
        (GEMMA, "```tool_code\nf(a='''\n```'x''', b='')  # it's\n``` x", [("f", {"a": "\n```'x", "b": ""}), "x"]),
        (GEMMA, "```tool_code\nf(\n```\n```tool_code\nf(a=1)\n```", ["```tool_code\nf(\n```", F]),
        (GEMMA, "```tool_code\nf(a='", ["```tool_code\nf(a='"]),
        (HERMES, f'<tool_call>{{"name": "f"}}</tool_call> {HERMES_CALL}', ['<tool_call>{"name": "f"}</tool_call>', F]),
        (HERMES, "<tool_call>1, 2; 3\n,[4]</tool_call>", ["<tool_call>1, 2; 3\n,[4]</tool_call>"]),
    ],
)
def test_calls_are_told_from_text(form: CallFormat, text: str, expected: list[Any]) -> None:
    assert split(form, [text]) == expected
    if len(text) < 300:
        assert split(form, list(text)) == expected
        for n in range(1, len(text)):
            assert split(form, [text[:n], text[n:]]) == expected


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (GEMMA, "```tool_code\nf(a='''" + "```" * 3000 + "''')\n```"),
        (GEMMA, "```tool_code\nf(a='''" + "```" * 3000),
        (GEMMA, "```tool_code\nf(a=1\n```" * 500),
        (HERMES, "<tool_call>" + json.dumps({"name": "f", "arguments": {"a": "</tool_call>" * 1000}}) + "</tool_call>"),
    ],
)
def test_each_character_is_read_once(form: CallFormat, text: str) -> None:
    """Though it is full of what may be a closing, and comes one by one."""
    n_read = []

    def counting(part: str) -> list[ToolCall]:
        n_read.append(len(part))
        return form.read(part)

    found = split(form._replace(read=counting), list(text))
    assert sum(n_read) <= len(text)
    assert found == split(form, [text])
    assert (found == [text]) == (len(n_read) == 500 or text.endswith("``````"))


def test_text_and_calls_come_as_soon_as_they_are_certain() -> None:
    splitter = CallSplitter(HERMES, NAMES)
    call = f"<tool_call>{json.dumps(CALL)}</tool_call>"
    assert [*splitter.feed("I look")] == ["I look"]
    assert [*splitter.feed(" a<")] == [" a"]
    assert [*splitter.feed("b ")] == ["<b"]
    assert [*splitter.feed(call[:-1])] == []
    assert [*splitter.feed(">")] == [ToolCall("f", '{"a": 1}')]
    assert [*splitter.finish()] == []
    assert [*CallSplitter(LLAMA, NAMES).feed("Hello")] == ["Hello"]
    assert [*CallSplitter(LLAMA, NAMES).feed('{"answer"')] == ['{"answer"']


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", HERMES),
        ("Qwen-Qwen3-0.6B", HERMES),
        ("mistralai-Mistral-Nemo-Instruct-2407", MISTRAL),
        ("openai-gpt-oss-120b", HARMONY),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", DEEPSEEK),
        ("microsoft-Phi-3.5-mini-instruct", HERMES),  # which says nothing of calls
    ],
)
def test_a_template_says_how_calls_are_written(name: str, form: CallFormat) -> None:
    assert find_format((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")) is form
