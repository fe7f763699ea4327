"""From text to the ids of byte-level BPE: by tiktoken where its rules give what the files say, else piece by piece."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import tiktoken

from pygpt.errors import TokenizerError
from pygpt.tokenizer.added import WHITESPACE
from pygpt.tokenizer.byte_level import BYTE_LETTERS, ByteLevel, merge_pairs, spelled
from pygpt.tokenizer.expressions import COVERING, overflows, single
from pygpt.tokenizer.merges import Merges

# tiktoken's expressions keep a stack of 10**6 entries, about one for each character of a run. What overflows it prints
# to standard error; so nothing comes near.
_LONG = 1 << 16
_BYTES = [bytes([byte]) for byte in range(256)]
_LONG_RUN = re.compile(f"[{WHITESPACE}]{{{_LONG},}}")


@dataclass(frozen=True)
class Ranks:
    """The tokens of a byte-level vocabulary as tiktoken takes them: each byte, then those that merging gives."""

    merged: Sequence[bytes]
    ids: Sequence[int | None]  # of the 256 bytes and of `merged`; None: the vocabulary lacks this byte
    whole: Mapping[bytes, int]  # count only where they are a whole piece
    others: Mapping[int, bytes]  # no text gives them; what they are shown as

    @property
    def tokens(self) -> list[bytes]:
        """By rank."""
        return [*_BYTES, *self.merged]

    def texts(self) -> dict[int, bytes]:
        """The bytes of each token by its id."""
        texts: dict[Any, bytes] = dict(zip(self.ids, self.tokens, strict=True))
        texts.pop(None, None)
        texts.update(zip(self.whole.values(), self.whole, strict=True))
        texts.update(self.others)
        return texts


class ByteWords:
    """Text without added tokens, cut into pieces whose bytes are merged."""

    def __init__(
        self,
        source: str,
        splits: tuple[str, ...],
        ranks: Mapping[bytes, int],
        ids: Sequence[int | None],
        whole: Mapping[bytes, int],
        *,
        unk_id: int | None = None,
        fuse_unk: bool = False,
    ) -> None:
        """`ids` by rank, without those of `whole`: tokens that count only where they are a whole piece."""
        self._source, self._splits, self._ranks, self._whole = source, splits, ranks, whole
        self._ids = [*ids, *whole.values()]
        self._unk_id, self._fuse_unk = unk_id, fuse_unk
        self._missing = None in ids
        self._first_whole = len(ids)
        expression = single(splits)
        self._covers = expression in COVERING
        self._overflows = expression is None or overflows(expression)
        self._tiktoken = None if expression is None else self._make(expression, whole)

    def _make(self, expression: str, more: Mapping[bytes, int]) -> tiktoken.Encoding:
        ranks = {**self._ranks, **{t: rank for rank, t in enumerate(more, start=self._first_whole)}}
        try:
            return tiktoken.Encoding(self._source, pat_str=expression, mergeable_ranks=ranks, special_tokens={})
        except ValueError as error:
            raise TokenizerError(f"{self._source}: tiktoken refuses the expression {expression!r}: {error}") from error

    @functools.cached_property
    def _merge(self) -> tiktoken.Encoding:
        """Merges a text that is one piece."""
        return self._make(r"[\s\S]+", {})

    @functools.cached_property
    def _cut(self) -> list[Callable[[str], Iterator[Any]]]:
        import regex  # here, because few texts need it

        return [regex.compile(split).finditer for split in self._splits]

    def __call__(self, text: str) -> list[int]:
        if self._tiktoken is None or (len(text) >= _LONG and (self._overflows or _LONG_RUN.search(text))):
            return self._by_pieces(text)
        ranks = self._tiktoken.encode_ordinary(text)
        if self._whole and max(ranks, default=0) >= self._first_whole:
            return self._by_pieces(text)  # it may have merged one from within a piece
        if not self._covers and len(self._tiktoken.decode_bytes(ranks)) != len(text.encode()):
            return self._by_pieces(text)  # the expression left out some text, which is a piece too
        ids = list(map(self._ids.__getitem__, ranks))
        return self._by_pieces(text) if self._missing and None in ids else cast(list[int], ids)

    def _by_pieces(self, text: str) -> list[int]:
        pieces = [text]
        for cut in self._cut:
            pieces = [part for piece in pieces for part in _isolated(piece, cut(piece))]
        ids: list[int] = []
        for piece in pieces:
            whole = self._whole.get(piece.encode()) if self._whole else None
            if whole is None:
                ids += self._piece(piece)
            else:
                ids.append(whole)
        return ids

    def _piece(self, piece: str) -> Iterator[int]:
        unknown = False
        for rank in self._merge.encode_ordinary(piece):
            i = self._ids[rank]
            if i is not None:
                yield i
            elif self._unk_id is None:
                raise TokenizerError(
                    f"{self._source}: no token for the byte {bytes([rank])!r}, and no unknown token either"
                )
            elif not (unknown and self._fuse_unk):
                yield self._unk_id
            unknown = i is None


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


def ranks_of(v: ByteLevel) -> Ranks:
    """What tiktoken is to merge by. TokenizerError: a damaged vocabulary."""
    texts = spelled(v.tokens)
    tokens = v.tokens if len(texts) == len(v.tokens) else {t: i for t, i in v.tokens.items() if t in texts}
    merged = Merges(v.source, BYTE_LETTERS, tokens, *merge_pairs(v)).merged_tokens(whole=v.whole_words)
    used = {*merged, *BYTE_LETTERS}
    rest = {t: i for t, i in tokens.items() if t not in used} if len(merged) + 256 != len(v.tokens) else {}
    whole = {texts[t]: i for t, i in rest.items()} if v.whole_words else {}
    others = {} if v.whole_words else {i: texts[t] for t, i in rest.items()}
    others |= (
        {i: t.encode("utf-8", "replace") for t, i in v.tokens.items() if t not in texts}
        if tokens is not v.tokens
        else {}
    )
    ids = [*map(tokens.get, BYTE_LETTERS), *map(tokens.__getitem__, merged)]
    return Ranks([texts[t] for t in merged], ids, whole, others)
