"""Calls of tools in what a model wrote, told from the text by the way in which its chat template writes them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pygpt._text import Closing, overlap
from pygpt.fields import doc, documented

__all__ = ["FORMATS", "CallFormat", "CallSplitter", "ToolCall", "find_format"]


@documented
@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks to be done."""

    name: str = field(metadata=doc("Of the tool."))
    arguments: str = field(metadata=doc("The text of a JSON table: values by the names of the tool's parameters."))


class CallFormat(NamedTuple):
    """How a model writes calls."""

    in_template: tuple[str, ...]  # the source of a template that writes them so has one of these
    openings: tuple[str, ...]  # what calls begin with
    closing: str | None  # what ends them; the end of the text does as well
    read: Callable[[str], list[ToolCall]]  # from the opening up to the closing; none: it is something else
    first: tuple[str, ...] = ()  # what they begin with at the beginning of the text alone, but for whitespace
    is_bare: bool = False  # those at the beginning are JSON, which may be an answer: they count by the tools' names
    quotes: tuple[str, ...] = ('"',)  # of its strings, which may hold the closing


def find_format(template: str) -> CallFormat:
    """The format of the calls that a chat template writes; where it is none of these, the commonest."""
    return next((f for f in FORMATS if any(mark in template for mark in f.in_template)), _HERMES)


class CallSplitter:
    """Takes a text apart as it comes: into text, without the whitespace around calls, and calls, each once it is
    complete. What begins like a call and is none stays text."""

    def __init__(self, form: CallFormat, names: Collection[str]) -> None:
        """`names`: of the tools that there are."""
        self._form, self._names = form, names
        self._held = ""  # what may still become a call, or is whitespace before one
        self._space = ""  # which stood before the opening that the held text begins with
        self._closing: Closing | None = None  # finds the end of calls whose opening it begins with
        self._is_open = False  # it begins with one
        self._is_start = True  # nothing was given out yet
        self._is_after = False  # right after a call

    def feed(self, text: str) -> Iterator[str | ToolCall]:
        """What is certain by now."""
        self._held += text
        yield from self._advance(is_end=False)

    def finish(self) -> Iterator[str | ToolCall]:
        """What was held back, once no more text comes."""
        yield from self._advance(is_end=True)

    def _advance(self, *, is_end: bool) -> Iterator[str | ToolCall]:
        while True:
            if self._is_after:
                self._held = self._held.lstrip()
                self._is_after = not self._held
            if not self._is_open:
                at = self._find()
                n = at if at is not None else len(self._held) if is_end else self._n_certain()
                text, rest = self._held[:n], self._held[n:]
                if at is not None:
                    self._space = text[len(text.rstrip()) :]
                    text = text.rstrip()
                self._held = rest
                yield from self._give(text)
                if at is None:
                    return
                self._open()
            calls, n = self._read(is_end)
            if calls:
                self._is_start, self._is_after = False, True
                yield from calls
            elif n:
                yield from self._give(self._space + self._held[:n])
            else:
                return
            self._held, self._is_open = self._held[n:], False

    def _open(self) -> None:
        """The held text begins with an opening."""
        self._is_open = True
        opening = next(filter(self._held.startswith, self._form.openings), "")
        closing = self._form.closing
        self._closing = None if closing is None else Closing(closing, self._form.quotes, len(opening))

    def _find(self) -> int | None:
        """Where the first opening stands."""
        if self._is_start and self._begun().startswith(self._form.first or "\0"):
            return len(self._held) - len(self._held.lstrip())
        return min((at for o in self._form.openings if (at := self._held.find(o)) >= 0), default=None)

    def _n_certain(self) -> int:
        """How many of the held characters no opening can begin with, nor whitespace before one."""
        if self._is_start and any(o.startswith(self._begun()) for o in self._form.first):
            return 0
        n = len(self._held) - max((overlap(self._held, o) for o in self._form.openings), default=0)
        return len(self._held[:n].rstrip())

    def _begun(self) -> str:
        """The beginning of the held text, without whitespace."""
        return re.sub(r"\s", "", self._held[:_MOST_BEGUN])

    def _read(self, is_end: bool) -> tuple[list[ToolCall], int]:
        """The calls that the held text begins with, and how many characters they are: 0 where more has to come. No
        calls: so many characters are something else."""
        at = None if self._closing is None else self._closing.find(self._held)
        if at is None and not is_end:
            return [], 0
        read = self._form.read if self._held.startswith(self._form.openings) else self._first
        n = len(self._held) if at is None else at + len(self._form.closing or "")
        return read(self._held[:at]), n

    def _first(self, text: str) -> list[ToolCall]:
        """Those at the beginning of the text."""
        calls = self._form.read(text)
        return [] if self._form.is_bare and any(call.name not in self._names for call in calls) else calls

    def _give(self, text: str) -> Iterator[str]:
        if text:
            self._is_start = False
            yield text


_MOST_BEGUN = 80  # characters
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[ \t\r\n,;]*")


def _values(text: str) -> list[Any]:
    """The JSON values that a text is, with commas or semicolons between them or not. ValueError: it is none."""
    found = []
    at = 0
    while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        value, at = _DECODER.raw_decode(text, at)
        found += value if isinstance(value, list) else [value]
    return found


def _call(value: Any) -> ToolCall:
    """ValueError: it is none."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    table = value if isinstance(value, dict) else {}
    name, arguments = table.get("name"), table.get("arguments", table.get("parameters"))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if isinstance(name, str) and name and isinstance(arguments, dict):
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    raise ValueError("a call has a name, and a table of arguments")


def _reader(opening: str, read: Callable[[str], list[ToolCall]]) -> Callable[[str], list[ToolCall]]:
    """Reads what stands after an opening, if it is there; no calls where that raises ValueError."""

    def calls(text: str) -> list[ToolCall]:
        try:
            return read(text.lstrip().removeprefix(opening))
        except (ValueError, RecursionError):
            return []

    return calls


def _json(text: str) -> list[ToolCall]:
    return [_call(value) for value in _values(text)]


def _mistral(text: str) -> list[ToolCall]:
    """A list of tables, or since its version 11 a name and its arguments."""
    if text.lstrip().startswith(("[", "{")):
        return _json(text)
    found = []
    for part in text.split("[TOOL_CALLS]"):
        match = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*(\{.*)", part, re.DOTALL)
        if match is None:
            raise ValueError("a name and a table are wanted")
        found.append(_call({"name": match[1], "arguments": match[2]}))
    return found


def _harmony(text: str) -> list[ToolCall]:
    """The header of a message to a function, and what it says."""
    match = re.match(r"(?:<\|channel\|>commentary )?to=functions\.([\w.-]+)[^{]*?<\|message\|>(.*)", text, re.DOTALL)
    return [] if match is None else [_call({"name": match[1], "arguments": match[2]})]


def _deepseek(text: str) -> list[ToolCall]:
    """V3 and R1 put the kind of the tool before its name, and fence its arguments; V3.1 does neither."""
    found = []
    for part in text.split("<｜tool▁call▁begin｜>")[1:]:
        head, _, body = part.partition("<｜tool▁sep｜>")
        body = body.split("<｜tool▁call▁end｜>")[0]
        if fenced := re.fullmatch(r"\s*(\S+)\s*```json(.*)```\s*", body, re.DOTALL):
            head, body = fenced[1], fenced[2]
        found.append(_call({"name": head.strip(), "arguments": body}))
    return found


def _python(text: str) -> list[ToolCall]:
    """Calls as Python writes them, with arguments by name, alone or in a list."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        found = []
        for call in calls:
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError("a call has arguments by name")
            arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            found.append(ToolCall(ast.unparse(call.func), json.dumps(arguments, ensure_ascii=False, allow_nan=False)))
    except (SyntaxError, TypeError, MemoryError) as error:
        raise ValueError(f"no calls of Python: {error}") from None
    return found


_TOOL_CODE = "```tool_code\n"  # Gemma 3's

_BARE = ('{"name":', '[{"name":')
_HERMES = CallFormat(  # Qwen's too; small ones forget the marks
    ("<tool_call>",), ("<tool_call>",), "</tool_call>", _reader("<tool_call>", _json), first=_BARE, is_bare=True
)

FORMATS: tuple[CallFormat, ...] = (
    CallFormat(  # OpenAI's harmony
        ("<|call|>",),
        (),
        "<|call|>",
        _reader("", _harmony),
        first=("to=functions.", "<|channel|>commentaryto=functions."),
    ),
    CallFormat(("[TOOL_CALLS]",), ("[TOOL_CALLS]",), None, _reader("[TOOL_CALLS]", _mistral)),
    CallFormat(
        ("<｜tool▁calls▁begin｜>",),
        ("<｜tool▁calls▁begin｜>",),
        "<｜tool▁calls▁end｜>",
        _reader("<｜tool▁calls▁begin｜>", _deepseek),
    ),
    _HERMES,
    CallFormat(("<|tool_call|>",), ("<|tool_call|>",), "<|/tool_call|>", _reader("<|tool_call|>", _json)),  # Phi-4
    CallFormat(  # Llama 3.1 and later
        ("<|python_tag|>", '"parameters": dictionary of argument name'),
        ("<|python_tag|>",),
        None,
        _reader("<|python_tag|>", _json),
        first=(*_BARE, '{"type":"function"'),
        is_bare=True,
    ),
    CallFormat(("tool_code",), (_TOOL_CODE,), "```", _reader(_TOOL_CODE, _python), quotes=('"""', "'''", '"', "'")),
)
