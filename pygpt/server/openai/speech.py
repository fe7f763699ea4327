"""What a model says in a conversation, taken apart as it comes: reasoning, text, calls of tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeAlias

from pygpt.generation import FinishReason, Piece, Section, Splitter, TokenLogprob, Turn
from pygpt.server.openai.answers import new_id
from pygpt.tool_calls import ToolCall

Part: TypeAlias = Literal["reasoning", "content"]


class Spoken(NamedTuple):
    """The next text of a part."""

    part: Part
    text: str


class Called(NamedTuple):
    """A call of a tool, as a whole."""

    id: str
    name: str
    arguments: str  # JSON


Said: TypeAlias = Spoken | Called


class CallReader(Protocol):
    """Finds calls of tools in a text as it comes."""

    def feed(self, text: str) -> Iterable[str | ToolCall]:
        """What is certain by now: text, and calls."""
        ...

    def finish(self) -> Iterable[str | ToolCall]:
        """What was held back, once no more text comes."""
        ...


class Speech:
    """One answer to a conversation: `take` says what a piece adds to it, and all of it is kept."""

    def __init__(self, turn: Turn | None, reader: CallReader | None = None) -> None:
        """turn: None: it continues a text, all of it is content. reader: None: there are no calls to be read."""
        self._splitter = Splitter(None, "") if turn is None else Splitter(turn.marks, turn.text)
        self._reader = reader
        self._texts: dict[Part, list[str]] = {"reasoning": [], "content": []}
        self.calls: list[Called] = []
        self.logprobs: list[TokenLogprob] = []
        self.n_tokens = 0
        self._n_before = 0  # tokens before the first of the content
        self._reason: FinishReason | None = None

    @property
    def content(self) -> str:
        return "".join(self._texts["content"])

    @property
    def reasoning(self) -> str | None:
        return "".join(self._texts["reasoning"]) or None

    @property
    def n_reasoning(self) -> int:
        """How many tokens were reasoning and its marks."""
        return self._n_before if self._texts["reasoning"] else 0

    @property
    def finish_reason(self) -> Literal["stop", "length", "tool_calls"]:
        """Why it ended."""
        if self._reason == "length":
            return "length"
        return "tool_calls" if self.calls else "stop"

    def take(self, piece: Piece) -> list[Said]:
        """What is certain by now."""
        content = self._texts["content"]
        said: list[Said]
        if content and self._reader is None:  # no mark comes after it
            said = [Spoken("content", piece.text)] if piece.text else []
            content += [piece.text] if piece.text else ()
        else:
            said = list(self._said(self._splitter.feed(piece.text)))
        if piece.finish_reason is not None:
            said += self._said(self._splitter.finish())
            said += [] if self._reader is None else self._read(self._reader.finish())
            self._reason = piece.finish_reason
        if piece.logprob is not None:
            self.logprobs.append(piece.logprob)
        if piece.token is not None:
            self.n_tokens += 1
            if not content and not self.calls:
                self._n_before = self.n_tokens
        return said

    def _said(self, sections: Iterable[Section]) -> Iterator[Said]:
        for section in sections:
            if section.part == "reasoning":
                self._texts["reasoning"].append(section.text)
                yield Spoken("reasoning", section.text)
            else:
                yield from self._read((section.text,) if self._reader is None else self._reader.feed(section.text))

    def _read(self, found: Iterable[str | ToolCall]) -> Iterator[Said]:
        for one in found:
            if isinstance(one, str):
                self._texts["content"].append(one)
                yield Spoken("content", one)
            else:
                self.calls.append(Called(new_id("call_"), one.name, one.arguments))
                yield self.calls[-1]
