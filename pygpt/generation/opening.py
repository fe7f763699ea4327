"""What comes before an answer that must have a form: the model's reasoning, which may have any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pygpt.generation.reasoning import Splitter

if TYPE_CHECKING:
    from pygpt.generation.turn import Turn
    from pygpt.tokenizer import Tokenizer


class Opening:
    """Follows the tokens of a reply up to its answer.

    A reply may begin with a mark of reasoning whose first token is one of its own, such as <think>; marks that are
    spelled like any other text cannot be told from an answer, which begins at once then, unless the prompt has begun
    the reasoning.
    """

    def __init__(self, tokenizer: Tokenizer, turn: Turn) -> None:
        self._splitter = Splitter(turn.marks, turn.text)
        self._decoder = tokenizer.stream(after=turn.tokens.tolist())
        spelled = [
            tokenizer.encode(mark, allow_special=True, add_special=False, continues=True)
            for mark in (turn.marks or {}).get("start", {})
        ]
        special = {*tokenizer.special_tokens.values()}
        self._marks = [ids for ids in spelled if len(ids) == 1 or ids[0] in special]
        self._written: list[int] = []  # of a mark

    @property
    def is_free(self) -> bool:
        """Whether anything may come next: it is reasoning."""
        return self._splitter.mode == "reasoning"

    @property
    def is_in_mark(self) -> bool:
        """Whether nothing may come next but the rest of a mark."""
        return bool(self._written)

    def next_tokens(self) -> Iterable[int]:
        """Those that begin a mark, or go on with it."""
        if self._splitter.mode != "start":
            return ()
        n = len(self._written)
        return {ids[n] for ids in self._marks if len(ids) > n and ids[:n] == self._written}

    def accept(self, token: int) -> bool:
        """The next token; whether it comes before the answer."""
        before = self._splitter.mode
        if before == "answer" or (before == "start" and token not in self.next_tokens()):
            return False
        if before == "start":
            self._written.append(token)
        for _ in self._splitter.feed(self._decoder.push(token)):
            pass
        if self._splitter.mode != "start" or before != "start":
            self._written = []
        return True
