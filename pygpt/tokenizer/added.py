"""Added tokens found in a text, as Hugging Face's library finds them: the leftmost first, of those the longest."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping

from pygpt.tokenizer.vocabulary import AddedToken

WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's White_Space. (What str.isspace() says differs in U+001C to U+001F.)"""


class Finder:
    """Finds some added tokens, by the text that stands for each."""

    def __init__(self, tokens: Mapping[str, AddedToken]) -> None:
        self._tokens = tokens
        lengths: dict[str, set[int]] = {}
        for text in tokens:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(several, reverse=True) for first, several in lengths.items()}
        # An expression of the texts themselves takes long to make, and to use, where there are thousands (Gemma).
        self._first = re.compile(f"[{re.escape(''.join(lengths))}]") if tokens else None

    def split(self, text: str, allow_special: bool) -> Iterator[tuple[str, AddedToken | None]]:
        """The text in pieces, those that are added tokens with their token; none is empty.

        A special token that is not allowed is passed over whole: no other token is looked for inside it.
        """
        start = 0
        for begin, end in self._matches(text):
            token = self._tokens[text[begin:end]]
            if (token.special and not allow_special) or (token.single_word and _touches_word(text, begin, end)):
                continue
            if token.lstrip:
                begin = max(len(text[:begin].rstrip(WHITESPACE)), start)
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip(WHITESPACE))
            if start < begin:
                yield text[start:begin], None
            if begin < end:  # not all of it was stripped by the token before
                yield text[begin:end], token
            start = end
        if start < len(text):
            yield text[start:], None

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the tokens are, from the left, none inside another."""
        match = self._first.search(text) if self._first else None
        while match is not None and self._first is not None:
            begin = end = match.start()
            for n in self._lengths[match[0]]:
                if begin + n <= len(text) and text[begin : begin + n] in self._tokens:
                    end = begin + n
                    yield begin, end
                    break
            match = self._first.search(text, max(end, begin + 1))


def finders(added: Iterable[AddedToken], normal: Mapping[AddedToken, str]) -> tuple[Finder, Finder]:
    """For the text as it is, and for the normalised one; `normal` has the normalised text of tokens."""
    raw, normalized = {}, {}
    for token in added:
        if token.normalized:
            normalized[normal.get(token, token.text)] = token
        else:
            raw[token.text] = token
    return Finder(raw), Finder(normalized)


def _touches_word(text: str, begin: int, end: int) -> bool:
    word = _word()
    return bool(word.match(text[begin - 1 : begin]) or word.match(text[end : end + 1]))


@functools.cache
def _word() -> re.Pattern[str]:
    import regex  # here, because few tokenizers need it; its \w, unlike re's, is Unicode's

    expression: re.Pattern[str] = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")
    return expression
