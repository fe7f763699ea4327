"""From a `Vocabulary` to ids: tiktoken where its rules give what the vocabulary's files say, else piece by piece."""

from __future__ import annotations

import contextlib
import dataclasses
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from pygpt.errors import TokenizerError
from pygpt.tokenizer.added import Finder, finders
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.byte_words import ByteWords, Ranks, ranks_of
from pygpt.tokenizer.character_level import BYTE_TOKENS, SPACE, CharacterLevel
from pygpt.tokenizer.decoding import ByteDecoder, StreamDecoder
from pygpt.tokenizer.vocabulary import END_OF_TEXT, AddedToken, Rules, Vocabulary

if TYPE_CHECKING:
    from pygpt.tokenizer.library import LibraryEncoding

_Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclasses.dataclass(frozen=True, kw_only=True)
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
    normalize: Callable[[str], str]
    words: Callable[[str], list[int]]  # the ids of what holds no added token
    prepend: str = ""  # put before what is normalised ...
    prefix_space: bool = False  # ... or a space before what is to be cut, if it begins with none

    def encode(self, text: str, allow_special: bool, add_special: bool, continues: bool) -> list[int]:
        """The ids of a text; see `Tokenizer.encode`."""
        raw, normalized = self.added
        ids = [*self.prefix] if add_special else []
        for part, token in raw.split(text, allow_special):
            if token is not None:
                ids.append(token.id)
            else:
                normal = self.normalize(part) if continues else self.prepend + self.normalize(part)
                for section, other in normalized.split(normal, allow_special):
                    if other is not None:
                        ids.append(other.id)
                    else:
                        spaced = self.prefix_space and not continues and section[0] != " "
                        ids += self.words(" " + section if spaced else section)
                    continues = False
            continues = False
        return [*ids, *self.suffix] if add_special else ids

    def decode(self, ids: Iterable[int], after: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        data = b"".join([self.texts.get(i, b"") for i in ids])
        if self._at_start(after):
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        return self.texts.get(token, b"")

    def decoder(self, after: Iterable[int]) -> StreamDecoder:
        """See `Tokenizer.stream`."""
        return ByteDecoder(self.texts, self._at_start(after))

    def _at_start(self, after: Iterable[int]) -> bool:
        return bool(self.prepend) and {*after} <= {*self.special.values()}


def normal_forms(forms: Sequence[str]) -> Callable[[str], str]:
    """Puts text into Unicode's normal forms, one after the other, by the tables of this Python's version."""

    def normalize(text: str) -> str:
        for form in forms:
            text = unicodedata.normalize(cast(_Form, form), text)
        return text

    return normalize


def build(v: Vocabulary) -> Encoding | LibraryEncoding:
    """Make a vocabulary ready for use. TokenizerError where it is damaged."""
    if isinstance(v, ByteLevel):
        return _of_bytes(v)
    if isinstance(v, CharacterLevel):
        return _of_characters(v)
    from pygpt.tokenizer.library import Library, LibraryEncoding  # here, because few tokenizers need it

    assert isinstance(v, Library)
    return LibraryEncoding(v)


def _of_bytes(v: ByteLevel) -> Encoding:
    return of_ranks(v, ranks_of(v), v.splits, v.normal_forms, fuse_unk=v.fuse_unk)


def of_ranks(v: Rules, ranks: Ranks, splits: tuple[str, ...], forms: tuple[str, ...], *, fuse_unk: bool) -> Encoding:
    """The encoding of a byte-level vocabulary."""
    texts = ranks.texts()
    texts.update((t.id, t.text.encode("utf-8", "replace")) for t in v.added)
    by_token = dict(zip(ranks.tokens, range(len(ranks.ids)), strict=True))
    words = ByteWords(v.source, splits, by_token, ranks.ids, ranks.whole, unk_id=v.unk_id, fuse_unk=fuse_unk)
    return _encoding(v, texts, normal_forms(forms), words, prefix_space=v.prefix_space)


def _of_characters(v: CharacterLevel) -> Encoding:
    from pygpt.tokenizer.character_words import CharacterWords  # here, because few tokenizers need it

    by_id = {i: t.replace(SPACE, " ").encode("utf-8", "replace") for t, i in v.tokens.items()}
    by_id |= {t.id: t.text.replace(SPACE, " ").encode("utf-8", "replace") for t in v.added}
    by_id |= {v.tokens[t]: bytes([byte]) for byte, t in enumerate(BYTE_TOKENS) if v.byte_fallback and t in v.tokens}
    prepend = SPACE if v.prefix_space else ""
    return _encoding(v, by_id, lambda text: text.replace(" ", SPACE), CharacterWords(v), prepend=prepend)


def _encoding(
    v: Rules,
    texts: Mapping[int, bytes],
    normalize: Callable[[str], str],
    words: Callable[[str], list[int]],
    *,
    prepend: str = "",
    prefix_space: bool = False,
) -> Encoding:
    normal: dict[AddedToken, str] = {t: prepend + normalize(t.text) for t in v.added if t.normalized}
    return Encoding(
        source=v.source,
        texts=texts,
        special=v.special,
        bos_id=v.bos_id,
        eos_id=v.eos_id,
        n_vocab=max(texts) + 1,
        prefix=v.prefix,
        suffix=v.suffix,
        added=finders(v.added, normal),
        normalize=normalize,
        words=words,
        prepend=prepend,
        prefix_space=prefix_space,
    )


def by_name(name: str) -> Encoding:
    """One of tiktoken's own encodings; a name it does not know, or cannot download, is a TokenizerError."""
    import tiktoken

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
        normalize=str,
        words=ByteWords(name, (encoding._pat_str,), encoding._mergeable_ranks, range(encoding.n_vocab), {}),
    )
