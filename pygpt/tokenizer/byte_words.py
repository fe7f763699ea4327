"""From text to the ids of byte-level BPE, by the core, which has the usual expressions as code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pygpt import _core
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel, merge_text
from pygpt.tokenizer.expressions import SPLITS, single


class ByteWords:
    """Text without added tokens, cut into pieces whose bytes are merged."""

    def __init__(self, source: str, pairs: _core.BytePairs, splits: tuple[str, ...]) -> None:
        self.pairs, self.splits = pairs, splits
        self._source = source
        self._split = SPLITS.get(single(splits) or "")

    @functools.cached_property
    def _cut(self) -> list[Callable[[str], Iterator[Any]]]:
        import regex  # here, because few tokenizers need it

        return [regex.compile(split).finditer for split in self.splits]

    def __call__(self, text: str) -> list[int]:
        try:
            if self._split is not None:
                return self.pairs.encode(text, self._split)
            pieces = [text]
            for cut in self._cut:
                pieces = [part for piece in pieces for part in _isolated(piece, cut(piece))]
            return [i for piece in pieces for i in self.pairs.encode(piece, "whole")]
        except ValueError as error:
            raise TokenizerError(f"{self._source}: {error}") from None


def _isolated(text: str, matches: Iterator[Any]) -> Iterator[str]:
    """What an expression matches, and what lies between."""
    end = 0
    for match in matches:
        if end < match.start():
            yield text[end : match.start()]
        if match.start() < match.end():
            yield match[0]
        end = match.end()
    if end < len(text):
        yield text[end:]


class ByteTexts:
    """The bytes of tokens by their ids: those of added tokens are their text's."""

    def __init__(self, pairs: _core.BytePairs, added: Mapping[int, bytes]) -> None:
        self._get, self._added = pairs.get, added
        self.greatest = max(pairs.greatest_id, *added, -1)

    def get(self, id_: int, none: bytes) -> bytes:
        """Those of a token; `none` where no token has the id."""
        found = self._added.get(id_)
        return self._get(id_, none) if found is None else found


def byte_pairs(v: ByteLevel) -> _core.BytePairs:
    """Of a vocabulary. TokenizerError where it and its merges do not go together."""
    merges = merge_text(v).encode("utf-8", "backslashreplace")  # a lone surrogate is in no token
    try:
        return _core.BytePairs.of_table(
            dict(v.tokens), merges, unk_id=v.unk_id, fuse_unk=v.fuse_unk, whole_words=v.whole_words
        )
    except ValueError as error:
        raise TokenizerError(f"{v.source}: {error}") from None
