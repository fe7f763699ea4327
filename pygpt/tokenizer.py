"""Text to token ids and back: tiktoken encodings built offline from a checkpoint's own vocabulary."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt import tokenizer_files, vocabulary
from pygpt.errors import TokenizerError
from pygpt.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tiktoken

FILES = ("tokenizer.json", "vocab.json", "merges.txt")
"""The files that a checkpoint folder's tokenizer is read from: the first, or else the other two together."""

# tiktoken's expressions keep a stack of 10**6 entries, which a longer run of whitespace inside a text overflows.
_LONG_RUN = 1 << 16
_WHITESPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space
_RUN = re.compile(f"[{_WHITESPACE}]{{{_LONG_RUN},}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """A vocabulary made ready for use."""

    encoding: tiktoken.Encoding
    pattern: str
    renamed: Mapping[int, int | None]  # tiktoken's rank -> id, where they differ; None: a byte that has no token
    texts: Mapping[int, bytes]  # by id
    special: Mapping[str, int]
    added: frozenset[str] = frozenset()
    bos_id: int | None
    eos_id: int | None
    nfc: bool = False


class Tokenizer:
    """A byte-level BPE vocabulary. Built at the first use, so that loading a model does not wait for it; usable from
    several threads. Every method and property raises TokenizerError where the checkpoint's vocabulary is damaged or
    not byte-level BPE.
    """

    def __init__(self, build: Callable[[], _Built], save: Callable[[], Vocabulary] | None = None) -> None:
        """Private: use `from_folder`, `from_gguf`, `from_vocabulary` or `from_tiktoken`."""
        self._build, self._vocabulary = build, save
        self._lock = threading.Lock()
        self._ready: _Built | None = None

    @classmethod
    def from_vocabulary(cls, load: Callable[[], Vocabulary]) -> Tokenizer:
        """From a function that reads a vocabulary; called when it is first needed."""
        return cls(lambda: _build(load()), load)

    @classmethod
    def from_folder(cls, folder: Path, *, bos_id: int | None = None, eos_id: int | None = None) -> Tokenizer | None:
        """From the `FILES` of a checkpoint folder; None where it has none of them. The ids come from the model's
        configuration."""
        if (folder / FILES[0]).is_file():
            return cls.from_vocabulary(lambda: tokenizer_files.from_tokenizer_json(folder / FILES[0], bos_id, eos_id))
        if (folder / FILES[1]).is_file() and (folder / FILES[2]).is_file():
            return cls.from_vocabulary(lambda: tokenizer_files.from_vocab_and_merges(folder, bos_id, eos_id))
        return None

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object], source: str) -> Tokenizer:
        """From the metadata of a GGUF file; arrays of strings are list[bytes]."""
        return cls.from_vocabulary(lambda: tokenizer_files.from_gguf(metadata, source))

    @classmethod
    def from_tiktoken(cls, name: str) -> Tokenizer:
        """One of tiktoken's own encodings, such as "gpt2" or "o200k_base". tiktoken downloads it once and caches it."""
        return cls(lambda: _from_tiktoken(name))

    @property
    def _state(self) -> _Built:
        if self._ready is None:
            with self._lock:
                if self._ready is None:
                    self._ready = self._build()
        return self._ready

    @property
    def n_vocab(self) -> int:
        """One more than the greatest id. A model's own n_vocab may be greater: rows of padding."""
        return max(self._state.texts) + 1

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, if the checkpoint names one."""
        return self._state.bos_id

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, if the checkpoint names one."""
        return self._state.eos_id

    @property
    def special_tokens(self) -> dict[str, int]:
        """The control tokens, such as <|endoftext|>, by their text."""
        return dict(self._state.special)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The ids of a text. What looks like a special token is plain text unless `allow_special`. A lone surrogate,
        which UTF-8 cannot hold, becomes U+FFFD. A byte that the vocabulary lacks becomes its unknown token; where it
        has none either, TokenizerError."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        state = self._state
        if state.nfc:
            text = unicodedata.normalize("NFC", text)
        allowed = set(state.added.union(state.special) if allow_special else state.added)
        ranks: list[int] = []
        try:
            for part in _parts(text, state.pattern):
                if allowed:
                    ranks += state.encoding.encode(part, allowed_special=allowed, disallowed_special=())
                else:
                    ranks += state.encoding.encode_ordinary(part)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # tiktoken's, of no importable class
                raise
            raise TokenizerError(
                f"{state.encoding.name}: its expression cannot cut up so long a run: {error}"
            ) from None
        if not state.renamed:
            return ranks
        ids = [state.renamed.get(rank, rank) for rank in ranks]
        if None in ids:
            byte = state.encoding.decode_single_token_bytes(ranks[ids.index(None)])
            raise TokenizerError(f"{state.encoding.name}: no token for the byte {byte!r}, and no unknown token either")
        return ids  # type: ignore[return-value]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. TokenizerError for an id without a token."""
        return b"".join(map(self._bytes, ids)).decode("utf-8", errors="replace")

    def stream(self) -> StreamDecoder:
        """A decoder that takes one id at a time."""
        return StreamDecoder(self._bytes)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which `from_folder` reads back; the ids of bos and eos are the model configuration's.

        TokenizerError for tiktoken's own encodings, which keep no merges.
        """
        if self._vocabulary is None:
            raise TokenizerError("tiktoken's own encodings have no files to save: they are known by their name")
        text = json.dumps(tokenizer_files.to_tokenizer_json(self._vocabulary()), ensure_ascii=False)
        (folder / FILES[0]).write_text(text, encoding="utf-8")

    def _bytes(self, token: int) -> bytes:
        try:
            return self._state.texts[token]
        except KeyError:
            raise TokenizerError(f"the id {token} has no token; n_vocab is {self.n_vocab}") from None


class StreamDecoder:
    """Gives out text as soon as its characters are complete. The pieces together are what `Tokenizer.decode` gives."""

    def __init__(self, text_of: Callable[[int], bytes]) -> None:
        self._text_of = text_of
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The characters that this id completes; often one word, sometimes nothing."""
        return self._decoder.decode(self._text_of(token))

    def finish(self) -> str:
        """What is left of a character that was never completed: U+FFFD, or nothing. The decoder starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


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
        if end == len(text) or pattern not in (vocabulary.GPT2, vocabulary.DIGITS, vocabulary.LLAMA3, vocabulary.QWEN2):
            break
        if pattern == vocabulary.DIGITS:
            whole = unicodedata.category(text[end])[0] == "N"
        else:
            whole = pattern != vocabulary.GPT2 and text[end - 1] in "\r\n"
        cut = end if whole else end - 1
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def _build(v: Vocabulary) -> _Built:
    """tiktoken wants the ranks of all single bytes and of all merges, and takes a rank for the id. Where the ids of the
    merges rise in their order, as they do in nearly every vocabulary, ids serve as ranks."""
    names = list(v.tokens)
    texts = dict(zip(v.tokens.values(), vocabulary.spelled(names, v.source), strict=True))
    merged = vocabulary.merged_ids(v)
    if v.whole_words:
        have = {*merged}
        merged += [i for name, i in v.tokens.items() if len(name) > 1 and i not in have]
    letters = [v.tokens.get(letter) for letter in vocabulary.BYTE_LETTERS]
    other = {**v.special, **v.added}
    top = max(*texts, *other.values(), 0) + 1
    renamed: dict[int, int | None] = {}
    if all(a < b for a, b in pairwise(merged)):
        ranks = {texts[i]: i for i in merged}
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
    import tiktoken

    try:
        encoding = tiktoken.Encoding(v.source, pat_str=v.pattern, mergeable_ranks=ranks, special_tokens=other_ranks)
    except ValueError as error:
        raise TokenizerError(f"{v.source}: tiktoken refuses the expression {v.pattern!r}: {error}") from error
    return _Built(
        encoding=encoding,
        pattern=v.pattern,
        renamed=renamed,
        texts=texts,
        special=v.special,
        added=frozenset(v.added),
        bos_id=v.bos_id,
        eos_id=v.eos_id,
        nfc=v.nfc,
    )


def _from_tiktoken(name: str) -> _Built:
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
    end = special.get(vocabulary.END_OF_TEXT)
    pattern = vocabulary.GPT2 if name in ("gpt2", "r50k_base", "p50k_base", "p50k_edit") else ""
    return _Built(encoding=encoding, pattern=pattern, renamed={}, texts=texts, special=special, bos_id=end, eos_id=end)
