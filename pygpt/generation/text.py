"""The text of a sequence as its tokens come: whole characters, and nothing from the first stop string on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pygpt._text import overlap

if TYPE_CHECKING:
    from pygpt.tokenizer import Tokenizer


class StopFilter:
    """Passes text on until the first stop string, and holds back what could still become one.

    The first stop string to be complete wins, so the result does not depend on how the text was cut into tokens.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that is certain by now, and whether a stop string was found; nothing may be fed after that."""
        if not self._stops:
            return text, False
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self._held = ""
            return text[: min(ends)[1]], True
        n_held = max((overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - n_held
        self._held = text[cut:]
        return text[:cut], False

    def finish(self) -> str:
        """What was held back, once no more text comes."""
        text, self._held = self._held, ""
        return text


class Text:
    """The text of one sequence, as its tokens come after those of a prompt."""

    def __init__(self, tokenizer: Tokenizer | None, stops: tuple[str, ...], prompt: Iterable[int]) -> None:
        self._decoder = None if tokenizer is None else tokenizer.stream(after=prompt)
        self._stop_filter = StopFilter(stops)

    def push(self, token: int) -> tuple[str, bool]:
        """The text that is certain by now, and whether a stop string was found."""
        if self._decoder is None:
            return "", False
        return self._stop_filter.feed(self._decoder.push(token))

    def end(self) -> str:
        """The rest, after the end-of-text token: bytes that are no whole character become U+FFFD."""
        if self._decoder is None:
            return ""
        text, stopped = self._stop_filter.feed(self._decoder.finish())
        return text if stopped else text + self.cut()

    def cut(self) -> str:
        """The rest, where the sequence is cut short: without a character that it cut in two."""
        return self._stop_filter.finish()
