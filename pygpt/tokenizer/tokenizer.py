"""Text to token ids and back: tiktoken encodings built offline from a checkpoint's own vocabulary."""

from __future__ import annotations

import codecs
import dataclasses
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt.errors import TokenizerError, check_type

if TYPE_CHECKING:
    from pygpt.tokenizer.encoding import Encoding
    from pygpt.tokenizer.vocabulary import Vocabulary

FILES = ("tokenizer.json", "vocab.json", "merges.txt")
"""The files that a checkpoint folder's tokenizer is read from: the first, or else the other two together."""
EXTRA_FILES = ("added_tokens.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Files that may stand beside them and belong to them."""


class Tokenizer:
    """A byte-level BPE vocabulary. Built at the first use, so that loading a model does not wait for it; usable from
    several threads. Every method and property raises TokenizerError where the checkpoint's vocabulary is damaged or
    not byte-level BPE.
    """

    def __init__(self, load: Callable[[], Vocabulary] | str, folder: Path | None = None) -> None:
        """From a function that reads a vocabulary, or from the name of one of tiktoken's own encodings ("gpt2",
        "o200k_base"), which tiktoken downloads once and caches. `folder`: where the vocabulary's files are."""
        self._load = load
        self._folder = folder
        self._lock = threading.Lock()
        self._ready: Encoding | None = None

    @classmethod
    def from_folder(cls, folder: Path, *, bos_id: int | None = None, eos_id: int | None = None) -> Tokenizer | None:
        """From the `FILES` of a checkpoint folder; None where it has none of them. The ids come from the model's
        configuration."""

        def load() -> Vocabulary:
            from pygpt.tokenizer import files

            if (folder / FILES[0]).is_file():
                return files.from_tokenizer_json(folder / FILES[0], bos_id, eos_id)
            return files.from_vocab_and_merges(folder, bos_id, eos_id)

        has = [(folder / name).is_file() for name in FILES]
        return cls(load, folder) if has[0] or (has[1] and has[2]) else None

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object], source: str) -> Tokenizer:
        """From the metadata of a GGUF file; arrays of strings are list[bytes]."""

        check_type("metadata", metadata, Mapping)

        def load() -> Vocabulary:
            from pygpt.tokenizer.files import from_gguf

            return from_gguf(metadata, source)

        return cls(load)

    def with_special(self, tokens: Mapping[str, int]) -> Tokenizer:
        """The same with more control tokens: ids by their text. TokenizerError, at the first use, where a text or an id
        is another token's already."""
        check_type("tokens", tokens, Mapping)
        load = self._load
        if isinstance(load, str):
            raise TokenizerError(f"tiktoken's encoding {load!r} cannot be given more tokens")

        def extended() -> Vocabulary:
            v = load()
            if taken := tokens.keys() & {*v.tokens, *v.special, *v.added}:
                raise TokenizerError(f"{v.source}: has a token {min(taken)!r} already")
            return dataclasses.replace(v, special={**v.special, **tokens})

        return Tokenizer(extended)

    @property
    def _state(self) -> Encoding:
        if self._ready is None:
            from pygpt.tokenizer import encoding

            with self._lock:
                if self._ready is None:
                    load = self._load
                    self._ready = encoding.by_name(load) if isinstance(load, str) else encoding.build(load())
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
        return self._state.encode(text, allow_special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. TokenizerError for an id without a token."""
        try:
            text = b"".join(map(self._state.texts.__getitem__, ids))
        except KeyError as error:
            raise self._unknown(error.args[0]) from None
        return text.decode("utf-8", errors="replace")

    def stream(self) -> StreamDecoder:
        """A decoder that takes one id at a time."""
        return StreamDecoder(self._bytes)

    def save(self, folder: Path) -> None:
        """Write files that `from_folder` reads back: copies of those it was read from, or tokenizer.json. The ids of
        bos and eos are the model configuration's.

        TokenizerError for tiktoken's own encodings, which keep no merges, and for a damaged vocabulary.
        """
        if self._folder is not None:
            import shutil  # here, because loading a model need not wait for it

            for name in (*FILES, *EXTRA_FILES):
                if (self._folder / name).is_file():
                    shutil.copyfile(self._folder / name, folder / name)
            return
        if isinstance(self._load, str):
            raise TokenizerError(f"tiktoken's encoding {self._load!r} has no files to save: its name is all it takes")
        from pygpt.tokenizer.files import to_tokenizer_json

        text = json.dumps(to_tokenizer_json(self._load()), ensure_ascii=False)
        (folder / FILES[0]).write_text(text, encoding="utf-8")

    def _bytes(self, token: int) -> bytes:
        try:
            return self._state.texts[token]
        except KeyError:
            raise self._unknown(token) from None

    def _unknown(self, token: object) -> TokenizerError:
        return TokenizerError(f"the id {token} has no token; n_vocab is {self.n_vocab}")


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
