"""Calls of tools in what models write, however the text is cut."""

from __future__ import annotations

import pytest

from pygpt.server.openai.call_reader import ToolCall, ToolCallReader, read_tool_calls

NAMES = {"f", "g"}
F, G = ToolCall("f", '{"x": 1}'), ToolCall("g", "{}")
ONE, OTHER = '{"name": "f", "arguments": {"x": 1}}', '{"name": "g", "arguments": {}}'
TEXTS = {
    "no call at all": ("no call at all", []),
    f"<tool_call>\n{ONE}\n</tool_call>": ("", [F]),
    f"Let me see.\n\n<tool_call>\n{ONE}\n</tool_call>\n<tool_call>{OTHER}</tool_call>": ("Let me see.", [F, G]),
    f"<tool_call>{ONE}</tool_call> Done.": ("Done.", [F]),
    f"<tool_call>{ONE}": ("", [F]),
    f"<tool_call>[{ONE}, {OTHER}]</tool_call>": ("", [F, G]),
    "<tool_call>what?</tool_call> x": ("<tool_call>what?</tool_call> x", []),
    f"<tool_call>{ONE} and more</tool_call>": (f"<tool_call>{ONE} and more</tool_call>", []),
    "a <tool b": ("a <tool b", []),
    "ends in <tool_ca": ("ends in <tool_ca", []),
    f"[TOOL_CALLS] [{ONE}, {OTHER}]": ("", [F, G]),
    '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{}': ("", [F, G]),
    f"<|tool_call|>[{ONE}]": ("", [F]),
    '<|python_tag|>{"name": "f", "parameters": {"x": 1}}': ("", [F]),
    '{"name": "f", "parameters": {"x": 1}}': ("", [F]),
    f" \n[{ONE}]": ("", [F]),
    '{"name": "f", "arguments": "{\\"x\\": 1}"}': ("", [F]),
    '{"name": "other", "arguments": {}}': ('{"name": "other", "arguments": {}}', []),
    '{"a": 1} is JSON': ('{"a": 1} is JSON', []),
    "[1] says": ("[1] says", []),
    "{": ("{", []),
    "[TOOL": ("[TOOL", []),
    "<tool_call>" + "[" * 5000: ("<tool_call>" + "[" * 5000, []),
    f"An example: {ONE}": (f"An example: {ONE}", []),
    '<tool_call>{"name": "\u00e9", "arguments": {"\u00e9": null}}</tool_call>': (
        "",
        [ToolCall("\u00e9", '{"\u00e9": null}')],
    ),
    "": ("", []),
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:40])
@pytest.mark.parametrize("step", [1, 3, 7, 10**6])
def test_calls_are_found(text: str, step: int) -> None:
    said, calls = TEXTS[text]
    assert read_tool_calls(text, NAMES) == (said, calls)
    reader = ToolCallReader(NAMES)
    found = [one for i in range(0, len(text), step) for one in reader.feed(text[i : i + step])]
    found += reader.finish()
    assert "".join(one for one in found if isinstance(one, str)) == said
    assert [one for one in found if isinstance(one, ToolCall)] == calls


def test_text_is_not_held_back_for_long() -> None:
    reader = ToolCallReader(NAMES)
    assert list(reader.feed("Hello")) == ["Hello"]
    assert list(reader.feed(" <")) == []
    assert list(reader.feed("b")) == [" <b"]
