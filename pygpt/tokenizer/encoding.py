"""From a `Vocabulary` to ids: tiktoken where its rules give what the vocabulary's files say, else piece by piece."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import tiktoken

from pygpt.errors import TokenizerError
from pygpt.tokenizer.added import WHITESPACE, Finder, finders
from pygpt.tokenizer.expressions import COVERING, overflows, single
from pygpt.tokenizer.merges import merged_tokens
from pygpt.tokenizer.vocabulary import BYTE_LETTERS, END_OF_TEXT, AddedToken, Vocabulary, is_spelled, spelled

# tiktoken's expressions keep a stack of 10**6 entries, about one for each character of a run. What overflows it prints
# to standard error; so nothing comes near.
_LONG = 1 << 16
_LONG_RUN = re.compile(f"[{WHITESPACE}]{{{_LONG},}}")

_Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """A vocabulary made ready for use."""

    source: str
    texts: Mapping[int, bytes]  # by id
    special: Mapping[str, int]
    bos_id: int | None
    eos_id: int | None
    n_vocab: int
    prefix: Sequence[int]
    suffix: Sequence[int]
    added: tuple[Finder, Finder]  # in the text as it is, and in the normalised one
    normal_forms: Sequence[str]
    prefix_space: bool
    words: Callable[[str], list[int]]  # the ids of what holds no added token

    def encode(self, text: str, allow_special: bool, add_special: bool) -> list[int]:
        """The ids of a text; see `Tokenizer.encode`."""
        raw, normalized = self.added
        ids = [*self.prefix] if add_special else []
        for part, token in raw.split(_without_surrogates(text), allow_special):
            if token is not None:
                ids.append(token.id)
                continue
            normal = normalize(part, self.normal_forms)
            for section, other in normalized.split(normal, allow_special):
                if other is not None:
                    ids.append(other.id)
                else:
                    ids += self.words(section if not self.prefix_space or section[0] == " " else " " + section)
        return [*ids, *self.suffix] if add_special else ids


def normalize(text: str, forms: Sequence[str]) -> str:
    """The text in Unicode's normal forms, one after the other, by the tables of this Python's version."""
    for form in forms:
        text = unicodedata.normalize(cast(_Form, form), text)
    return text


def _without_surrogates(text: str) -> str:
    """UTF-8 holds no lone surrogates: each becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Words:
    """Text without added tokens, cut into pieces whose bytes are merged."""

    def __init__(
        self,
        source: str,
        splits: tuple[str, ...],
        ranks: Mapping[bytes, int],
        ids: Sequence[int | None],
        *,
        whole: Mapping[bytes, int],
        unk_id: int | None = None,
        fuse_unk: bool = False,
    ) -> None:
        """`ids` by rank, those of `whole` last: tokens that count only where they are a whole piece."""
        self._source, self._splits, self._ranks, self._ids, self._whole = source, splits, ranks, ids, whole
        self._unk_id, self._fuse_unk = unk_id, fuse_unk
        self._missing = None in ids
        self._first_whole = len(ids) - len(whole)
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


def _words(v: Vocabulary, texts: Mapping[str, bytes]) -> _Words:
    merged = merged_tokens(v, texts)
    have = {*merged}
    whole = {texts[t]: i for t, i in v.tokens.items() if len(t) > 1 and t not in have} if v.whole_words else {}
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {texts[t]: rank for rank, t in enumerate(merged, start=256)}
    ids = [*(v.tokens.get(letter) for letter in BYTE_LETTERS), *(v.tokens[t] for t in merged), *whole.values()]
    return _Words(v.source, v.splits, ranks, ids, whole=whole, unk_id=v.unk_id, fuse_unk=v.fuse_unk)


def build(v: Vocabulary) -> Encoding:
    """Make a vocabulary ready for use. TokenizerError where it is not byte-level BPE."""
    added = {t.text for t in v.added}
    tokens = {t: i for t, i in v.tokens.items() if t not in added or is_spelled(t)}
    v = dataclasses.replace(v, tokens=tokens)
    texts = dict(zip(tokens, spelled(list(tokens), v.source), strict=True))
    by_id = dict(zip(tokens.values(), texts.values(), strict=True))
    by_id |= {t.id: t.text.encode("utf-8", "replace") for t in v.added}
    normal: dict[AddedToken, str] = {t: normalize(t.text, v.normal_forms) for t in v.added if t.normalized}
    return Encoding(
        source=v.source,
        texts=by_id,
        special=v.special,
        bos_id=v.bos_id,
        eos_id=v.eos_id,
        n_vocab=max(by_id) + 1,
        prefix=v.prefix,
        suffix=v.suffix,
        added=finders(v.added, normal),
        normal_forms=v.normal_forms,
        prefix_space=v.prefix_space,
        words=_words(v, texts),
    )


def by_name(name: str) -> Encoding:
    """One of tiktoken's own encodings; a name it does not know, or cannot download, is a TokenizerError."""
    try:
        encoding = tiktoken.get_encoding(name)
    except ValueError as error:
        raise TokenizerError(f"{name!r} is none of tiktoken's encodings {tiktoken.list_encoding_names()}") from error
    except Exception as error:  # what the download raises, from a library of tiktoken's choice
        raise TokenizerError(
            f"tiktoken has not cached its encoding {name!r} and cannot download it: {error}"
        ) from error
    texts = {}
    for i in range(encoding.n_vocab):
        with contextlib.suppress(KeyError):  # a gap
            texts[i] = encoding.decode_single_token_bytes(i)
    special = {token: encoding.encode_single_token(token) for token in encoding.special_tokens_set}
    end = special.get(END_OF_TEXT)
    return Encoding(
        source=name,
        texts=texts,
        special=special,
        bos_id=end,
        eos_id=end,
        n_vocab=max(texts) + 1,
        prefix=(),
        suffix=(),
        added=finders([AddedToken(text=t, id=i) for t, i in special.items()], {}),
        normal_forms=(),
        prefix_space=False,
        words=_Words(name, (encoding._pat_str,), encoding._mergeable_ranks, range(encoding.n_vocab), whole={}),
    )
