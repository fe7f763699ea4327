"""What a model thinks before it answers, told from the answer by the marks that it was trained to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pygpt._text import overlap
from pygpt.fields import doc, documented

Part: TypeAlias = Literal["reasoning", "answer"]
_Mode: TypeAlias = Literal["start", "reasoning", "answer"]
Marks: TypeAlias = Mapping[_Mode, Mapping[str, _Mode]]
"""What marks may come where, and what comes after each."""


def _between(opening: str, closing: str) -> Marks:
    return {"start": {opening: "reasoning"}, "reasoning": {closing: "answer"}}


FORMATS: tuple[Marks, ...] = (
    _between("<think>", "</think>"),
    _between("[THINK]", "[/THINK]"),
    _between("<seed:think>", "</seed:think>"),
    {  # OpenAI's harmony: channels
        "start": {
            "<|channel|>analysis<|message|>": "reasoning",
            "<|channel|>commentary<|message|>": "reasoning",
            "<|channel|>final<|message|>": "answer",
        },
        "reasoning": {"<|end|><|start|>assistant": "start"},
    },
)


def find_marks(template: str, is_token: Callable[[str], bool]) -> Marks | None:
    """The marks of a model: those that its chat template has, or else those whose first is a token of its own."""
    for marks in FORMATS:
        if any(mark in template for table in marks.values() for mark in table):
            return marks
    return next((marks for marks in FORMATS if is_token(next(iter(marks["start"])))), None)


@documented
@dataclass(frozen=True, slots=True)
class Section:
    """A piece of the text of an answer."""

    part: Part = field(metadata=doc('What it belongs to: "reasoning" or "answer".'))
    text: str = field(metadata=doc("Whole characters, never empty."))


class Splitter:
    """Takes a reply apart as its text comes. Without marks, and where none comes first, all of it is the answer."""

    def __init__(self, marks: Marks | None, prompt: str) -> None:
        """`prompt` is the text before the reply, which may have begun the reasoning."""
        self._marks: Marks = marks or {}
        self._mode: _Mode = "start" if marks else "answer"
        self._held = ""  # what may still become a mark, or is whitespace beside one
        self._is_fresh = False  # right after a mark
        for mark, mode in self._marks.get("start", {}).items():
            if prompt.rstrip().endswith(mark):
                self._enter(mode, "")

    @property
    def mode(self) -> _Mode:
        """Where the reply is: "start" as long as a mark may come first."""
        return self._mode

    def feed(self, text: str) -> Iterator[Section]:
        """What is certain by now."""
        self._held += text
        while True:
            if self._is_fresh:
                self._held = self._held.lstrip()
                if not self._held:
                    return
                self._is_fresh = False
            marks = self._marks.get(self._mode, {})
            if self._mode == "start":
                begin = self._held.lstrip()
                found = next((mark for mark in marks if begin.startswith(mark)), None)
                if found is not None:
                    self._enter(marks[found], begin[len(found) :])
                elif any(mark.startswith(begin) for mark in marks):
                    return
                else:
                    self._mode = "answer"
                continue
            ends = [(at, mark) for mark in marks if (at := self._held.find(mark)) >= 0]
            if not ends:
                yield from self._give(self._n_certain(marks))
                return
            at, mark = min(ends)
            rest = self._held[at + len(mark) :]
            yield from self._give(len(self._held[:at].rstrip()))
            self._enter(marks[mark], rest)

    def finish(self) -> Iterator[Section]:
        """What was held back, once no more text comes."""
        yield from self._give(len(self._held) if self._mode == "answer" else len(self._held.rstrip()))

    def _n_certain(self, marks: Mapping[str, _Mode]) -> int:
        """How many of the held characters no mark can begin with, nor whitespace before one."""
        if not marks:
            return len(self._held)
        n = len(self._held) - max(overlap(self._held, mark) for mark in marks)
        return len(self._held[:n].rstrip())

    def _enter(self, mode: _Mode, rest: str) -> None:
        self._mode, self._held, self._is_fresh = mode, rest, mode != "start"

    def _give(self, n: int) -> Iterator[Section]:
        text, self._held = self._held[:n], self._held[n:]
        if text:
            yield Section("reasoning" if self._mode == "reasoning" else "answer", text)
