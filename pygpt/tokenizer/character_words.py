"""From text to the ids of BPE over characters, by tiktoken.

tiktoken merges bytes, those neighbours first that together have the lowest rank, the leftmost of equal ones. So the
bytes of each character come together first: the beginnings of its bytes have the lowest ranks, then come the
characters, then the tokens of several characters in the order of their scores. A beginning that no character of the
vocabulary followed stands for the bytes it is made of.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import pairwise

import tiktoken

from pygpt.tokenizer.character_level import BYTE_TOKENS, SPACE, CharacterLevel

_PART = 256


class CharacterWords:
    """Text without added tokens, its spaces spelled as tokens spell them, merged as a whole."""

    def __init__(self, v: CharacterLevel) -> None:
        characters = {*"".join(v.merged), *(t for t in v.tokens if len(t) == 1)}
        # Put after the text: tiktoken takes a text that is a token for that token, but merging may not give it.
        self._end = next(c for c in map(chr, range(0x10FFFF, 0, -1)) if c not in characters)
        encoded = sorted(c.encode() for c in characters if not c.isascii())
        beginnings = dict.fromkeys(c[:n] for n in (2, 3) for c in encoded if n < len(c))
        texts = [*map(bytes, zip(range(256))), *beginnings, *encoded, *map(str.encode, v.merged)]
        self._tiktoken = tiktoken.Encoding(
            v.source,
            pat_str=r"[\s\S]+",
            mergeable_ranks=dict(zip(texts, itertools.count())),
            special_tokens={},
        )
        self._before_space = {
            SPACE,
            *(c for t in v.merged if SPACE in t[1:] for c, following in pairwise(t) if following == SPACE),
        }
        self._n_end = len(self._tiktoken.encode_ordinary(self._end))
        self._unk_id, self._fuse_unk = v.unk_id, v.fuse_unk
        self._bytes = [v.tokens.get(t) if v.byte_fallback else None for t in BYTE_TOKENS]
        n = len(texts) - len(v.merged)
        self._texts = texts[:n]
        singles = [v.tokens.get(text.decode()) for text in texts[256 + len(beginnings) : n]]
        ascii_ = [v.tokens.get(chr(byte)) for byte in range(128)]
        unsure = [None] * (128 + len(beginnings))
        self._ids: Sequence[int | None] = [*ascii_, *unsure, *singles, *(v.tokens[t] for t in v.merged)]

    def __call__(self, text: str) -> list[int]:
        ranks: list[int] = []
        for part in self._parts(text):
            ranks += self._tiktoken.encode_ordinary(part + self._end)[: -self._n_end]
        ids = list(map(self._ids.__getitem__, ranks))
        return self._with_unknown(ranks, ids) if None in ids else ids  # type: ignore[return-value]

    def _parts(self, text: str) -> Iterator[str]:
        """The text cut before spaces that no token has after what is there: short parts are merged faster."""
        start = 0
        at = text.find(SPACE, _PART)
        while at >= 0:
            if text[at - 1] not in self._before_space:
                yield text[start:at]
                start, at = at, at + _PART
            at = text.find(SPACE, at + 1)
        yield text[start:]

    def _with_unknown(self, ranks: Sequence[int], found: Sequence[int | None]) -> list[int]:
        ids: list[int] = []
        for known, group in itertools.groupby(zip(ranks, found, strict=True), key=lambda pair: pair[1] is not None):
            if known:
                ids += [i for _, i in group if i is not None]
            else:
                ids += self._unknown(b"".join(self._texts[rank] for rank, _ in group).decode())
        return ids

    def _unknown(self, characters: str) -> list[int]:
        """The ids of characters that are no tokens."""
        ids: list[int] = []
        fuse = False
        for character in characters:
            fallback = [self._bytes[byte] for byte in character.encode()]
            if None not in fallback:
                ids += fallback  # type: ignore[arg-type]
            elif self._unk_id is not None and not fuse:
                ids.append(self._unk_id)
            fuse = self._fuse_unk and None in fallback
        return ids
