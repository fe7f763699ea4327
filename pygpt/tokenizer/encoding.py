"""From a `Vocabulary` to a tiktoken encoding, and how long texts are cut for it."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tiktoken

from pygpt.errors import TokenizerError
from pygpt.tokenizer.vocabulary import (
    BYTE_LETTERS,
    DIGITS,
    END_OF_TEXT,
    GPT2,
    LLAMA3,
    QWEN2,
    Vocabulary,
    merged_ids,
    spelled,
)

# tiktoken's expressions keep a stack of 10**6 entries, which a longer run of whitespace inside a text overflows.
_LONG_RUN = 1 << 16
_WHITESPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space
_RUN = re.compile(f"[{_WHITESPACE}]{{{_LONG_RUN},}}")


class Encoding(NamedTuple):
    """A vocabulary made ready for use."""

    tiktoken: tiktoken.Encoding
    pattern: str
    renamed: Mapping[int, int | None]  # tiktoken's rank -> id, where they differ; None: a byte that has no token
    texts: Mapping[int, bytes]  # by id
    special: Mapping[str, int]
    bos_id: int | None
    eos_id: int | None
    added: frozenset[str] = frozenset()
    nfc: bool = False

    def encode(self, text: str, allow_special: bool) -> list[int]:
        """The ids of a text; see `Tokenizer.encode`."""
        if self.nfc:
            text = unicodedata.normalize("NFC", text)
        allowed = set(self.added.union(self.special) if allow_special else self.added)
        ranks: list[int] = []
        try:
            for part in _parts(text, self.pattern):
                if allowed:
                    ranks += self.tiktoken.encode(part, allowed_special=allowed, disallowed_special=())
                else:
                    ranks += self.tiktoken.encode_ordinary(part)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # tiktoken's, of no importable class
                raise
            raise TokenizerError(f"{self.tiktoken.name}: its expression cannot cut up so long a run: {error}") from None
        if not self.renamed:
            return ranks
        ids = [self.renamed.get(rank, rank) for rank in ranks]
        if None in ids:
            byte = self.tiktoken.decode_single_token_bytes(ranks[ids.index(None)])
            raise TokenizerError(f"{self.tiktoken.name}: no token for the byte {byte!r}, and no unknown token either")
        return ids  # type: ignore[return-value]


def _parts(text: str, pattern: str) -> Iterator[str]:
    r"""Cut the text inside very long runs of whitespace, where a piece ends in any case.

    A run that is followed by something else gives up its last character, which begins the next piece (`\s+(?!\S)`),
    and the rest of it ends a piece; after the cut it stands at the end of a text, where `\s++$` takes the same piece
    without a stack. With Llama 3's and Qwen's expression a run up to its last newline is a piece; with DIGITS a digit
    counts as the end of the text. Other expressions are left alone.
    """
    start = 0
    for run in _RUN.finditer(text) if len(text) >= _LONG_RUN else ():
        end = run.end()
        if end == len(text) or pattern not in (GPT2, DIGITS, LLAMA3, QWEN2):
            break
        if pattern == DIGITS:
            whole = unicodedata.category(text[end])[0] == "N"
        else:
            whole = pattern != GPT2 and text[end - 1] in "\r\n"
        cut = end if whole else end - 1
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def build(v: Vocabulary) -> Encoding:
    """tiktoken wants the ranks of all single bytes and of all merges, and takes a rank for the id. Where the ids of the
    merges rise in their order, as they do in nearly every vocabulary, ids serve as ranks.

    tiktoken merges any two neighbours that together are a token, Hugging Face's library only the pairs that the merges
    list. Trained vocabularies leave no text where that differs: the goldens, and 360,000 random strings, found none.
    """
    texts = dict(zip(v.tokens.values(), spelled(list(v.tokens), v.source), strict=True))
    merged = merged_ids(v)
    if v.whole_words:
        have = {*merged}
        merged += [i for name, i in v.tokens.items() if len(name) > 1 and i not in have]
    letters = [v.tokens.get(letter) for letter in BYTE_LETTERS]
    other = {**v.special, **v.added}
    top = max(max(texts), *other.values(), 0) + 1
    renamed: dict[int, int | None] = {}
    if np.all(np.diff(merged) > 0):
        ranks = dict(zip(map(texts.__getitem__, merged), merged, strict=True))
        for byte, i in enumerate(letters):
            ranks[bytes([byte])] = top + byte if i is None else i
            if i is None:
                renamed[top + byte] = v.unk_id
        other_ranks = other
    else:
        ranks = {bytes([byte]): byte for byte in range(256)}
        renamed = {byte: v.unk_id if i is None else i for byte, i in enumerate(letters)}
        for rank, i in enumerate(merged, start=256):
            ranks[texts[i]] = rank
            renamed[rank] = i
        other_ranks = {name: len(ranks) + k for k, name in enumerate(other)}
        renamed |= {other_ranks[name]: i for name, i in other.items()}
    texts |= {i: name.encode("utf-8", "replace") for name, i in other.items()}
    try:
        encoding = tiktoken.Encoding(v.source, pat_str=v.pattern, mergeable_ranks=ranks, special_tokens=other_ranks)
    except ValueError as error:
        raise TokenizerError(f"{v.source}: tiktoken refuses the expression {v.pattern!r}: {error}") from error
    return Encoding(
        tiktoken=encoding,
        pattern=v.pattern,
        renamed=renamed,
        texts=texts,
        special=v.special,
        added=frozenset(v.added),
        bos_id=v.bos_id,
        eos_id=v.eos_id,
        nfc=v.nfc,
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
    pattern = GPT2 if name in ("gpt2", "r50k_base", "p50k_base", "p50k_edit") else ""
    return Encoding(
        tiktoken=encoding, pattern=pattern, renamed={}, texts=texts, special=special, bos_id=end, eos_id=end
    )
