"""What strings have in common."""

from __future__ import annotations

import re


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, less than all of it."""
    if not text or text[-1] not in stop:  # mostly
        return 0
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Closing:
    """Finds the mark that ends JSON or a program, outside of its strings, as the text grows: each character is looked
    at once, however often more comes."""

    def __init__(self, mark: str, quotes: tuple[str, ...], at: int) -> None:
        """`quotes`: what strings begin and end with, the longest first. A backslash in a string takes the next
        character with it; a quote of one character ends with its line, be it that it was none. `at`: where to begin."""
        self._mark, self._quotes = mark, quotes
        self._longest = max(len(mark), 2, *map(len, quotes))  # of what is looked for
        self._outside = re.compile("|".join(map(re.escape, (mark, *quotes))))
        ends = {quote: re.escape(quote) + ("|\n" if len(quote) == 1 else "") for quote in quotes}
        self._within = {quote: re.compile(rf"\\.|{end}", re.DOTALL) for quote, end in ends.items()}
        self._quote = ""  # of the string that is open
        self._at = at  # so many characters are done with

    def find(self, text: str) -> int | None:
        """Where the mark stands in the text, which begins with what was given before; None: not yet."""
        while True:
            pattern = self._within[self._quote] if self._quote else self._outside
            match = pattern.search(text, self._at)
            if match is None:
                self._at = max(self._at, len(text) - self._longest + 1)
                return None
            rest = text[match.start() : match.start() + self._longest]
            if not self._quote and match[0] == self._mark:
                return match.start()
            if not self._quote and any(rest != quote and quote.startswith(rest) for quote in self._quotes):
                self._at = match.start()  # the beginning of a longer quote, perhaps
                return None
            if not self._quote:
                self._quote = match[0]
            elif match[0][0] != "\\":
                self._quote = ""
            self._at = match.end()
