"""What a model says in a conversation, taken apart as it comes: reasoning, text, calls of tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from pygpt.generation import FinishReason, Piece, Section, Splitter, TokenLogprob, Turn

Part: TypeAlias = Literal["reasoning", "content"]


class Spoken(NamedTuple):
    """The next text of a part."""

    part: Part
    text: str


class Speech:
    """One answer to a conversation: `take` says what a piece adds to it, and all of it is kept."""

    def __init__(self, turn: Turn | None) -> None:
        """None: it continues a text, all of it is content."""
        self._splitter = Splitter(None, "") if turn is None else Splitter(turn.marks, turn.text)
        self._texts: dict[Part, list[str]] = {"reasoning": [], "content": []}
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: FinishReason | None = None
        self.n_tokens = 0
        self._n_before = 0  # tokens before the first of the content

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

    def take(self, piece: Piece) -> list[Spoken]:
        """What is certain by now."""
        content = self._texts["content"]
        if content:  # no mark comes after it
            said = [Spoken("content", piece.text)] if piece.text else []
            content += [piece.text] if piece.text else ()
        else:
            said = list(self._said(self._splitter.feed(piece.text)))
        if piece.finish_reason is not None:
            said += self._said(self._splitter.finish())
            self.finish_reason = piece.finish_reason
        if piece.logprob is not None:
            self.logprobs.append(piece.logprob)
        if piece.token is not None:
            self.n_tokens += 1
            if not self._texts["content"]:
                self._n_before = self.n_tokens
        return said

    def _said(self, sections: Iterable[Section]) -> Iterator[Spoken]:
        for section in sections:
            part: Part = "reasoning" if section.part == "reasoning" else "content"
            self._texts[part].append(section.text)
            yield Spoken(part, section.text)
