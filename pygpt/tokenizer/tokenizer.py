"""Text to token ids and back, by the vocabulary that a checkpoint brings: nothing is downloaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pygpt.errors import TokenizerError, check_type
from pygpt.tokenizer.decoding import StreamDecoder, integers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pygpt.tokenizer.chat_templates import ChatTemplates
    from pygpt.tokenizer.encoding import Encoding
    from pygpt.tokenizer.library import LibraryEncoding
    from pygpt.tokenizer.vocabulary import Vocabulary

_T = TypeVar("_T")

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model")
"""The files that a checkpoint folder's tokenizer is read from: the first, or the next two together, or the last."""
EXTRA_FILES = (
    *("added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
"""Files that may stand beside them and belong to them, as patterns."""


class Tokenizer:
    """A vocabulary of BPE or Unigram. Built at the first use, so that loading a model does not wait for it; usable from
    several threads. Every method and property raises TokenizerError where the checkpoint's vocabulary is damaged or of
    another kind. It can be pickled and copied.
    """

    def __init__(
        self,
        load: Callable[[], Vocabulary] | str,
        folder: Path | None = None,
        load_templates: Callable[[], ChatTemplates] | None = None,
        load_ready: Callable[[], Encoding | None] | None = None,
    ) -> None:
        """From a function that reads a vocabulary, or from the name of one of tiktoken's own encodings ("gpt2",
        "o200k_base"), which tiktoken downloads once and caches. `folder`: where the vocabulary's files are.
        `load_templates` reads the chat templates, `load_ready` the vocabulary made ready, where it was kept."""
        if not callable(load):
            check_type("load", load, str)
        self._load = load
        self._folder = folder
        self._load_templates = load_templates
        self._load_ready = load_ready
        self._read_templates: ChatTemplates | None = None
        self._lock = threading.Lock()
        self._ready: Encoding | LibraryEncoding | None = None
        self._fingerprint: bytes | None = None

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], *, bos_id: int | None = None, eos_id: int | None = None
    ) -> Tokenizer | None:
        """From the `FILES` of a checkpoint folder and the `EXTRA_FILES` beside them; None where it has none of them.
        The ids are those of the model's configuration; left out, those that the files name."""
        from pygpt.tokenizer import chat_templates, files

        path = _path(folder)
        if not files.has_tokenizer(path):
            return None
        for name, i in (("bos_id", bos_id), ("eos_id", eos_id)):
            check_type(name, i, int, type(None))
        return cls(lambda: files.read_folder(path, bos_id, eos_id), path, lambda: chat_templates.of_folder(path))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object], source: str) -> Tokenizer:
        """From the metadata of a GGUF file; arrays of strings are list[bytes]. `source` stands in messages."""
        from pygpt.tokenizer import chat_templates
        from pygpt.tokenizer.gguf import read_gguf

        check_type("metadata", metadata, Mapping)
        return cls(lambda: read_gguf(metadata, source), None, lambda: chat_templates.of_gguf(metadata, source))

    @classmethod
    def from_pieces(
        cls, pieces: Sequence[bytes], scores: Sequence[float], *, bos_id: int, eos_id: int, source: str
    ) -> Tokenizer:
        """From SentencePiece's BPE as llama2.c's tokenizer.bin has it: the texts of pieces, spaces in them as they are,
        and their scores. The first is the unknown one; those spelled <0x00> to <0xFF> stand for bytes. `source` stands
        in messages."""
        from pygpt.tokenizer.pieces import of_llama2c

        for name, value, kind in (("pieces", pieces, bytes), ("scores", scores, float)):
            check_type(name, value, list, tuple)
            for one in value:
                check_type(f"an entry of {name}", one, kind)
        for name, i in (("bos_id", bos_id), ("eos_id", eos_id)):
            check_type(name, i, int)
        return cls(lambda: of_llama2c(pieces, scores, bos_id, eos_id, source))

    def prepared(self) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]] | None:
        """The vocabulary in the form that is ready soonest (tokenizer/prepared.py); None where its kind has none."""
        from pygpt.tokenizer.prepared import prepared

        return None if isinstance(self._load, str) else prepared(self._load())

    def with_special(self, tokens: Mapping[str, int]) -> Tokenizer:
        """The same with more special tokens: ids by their text. TokenizerError, at the first use, where a text or an id
        is another token's already."""
        from pygpt.tokenizer.vocabulary import AddedToken

        check_type("tokens", tokens, Mapping)
        load = self._load
        if isinstance(load, str):
            raise TokenizerError(f"tiktoken's encoding {load!r} cannot be given more tokens")
        for text in tokens:
            check_type("the text of a token", text, str)
        more = tuple(AddedToken(text=text, id=i) for text, i in tokens.items())

        def extended() -> Vocabulary:
            v = load()
            if taken := tokens.keys() & {*v.tokens, *(t.text for t in v.added)}:
                raise TokenizerError(f"{v.source}: has a token {min(taken)!r} already")
            return dataclasses.replace(v, added=(*v.added, *more))

        return Tokenizer(extended, None, self._load_templates)

    def with_chat_template(self, template: str) -> Tokenizer:
        """The same with a chat template, Jinja as `render` takes it, in the place of those that it has."""
        from pygpt.tokenizer.chat_templates import DEFAULT

        check_type("template", template, str)
        templates = dataclasses.replace(self._templates, templates={DEFAULT: template})
        return Tokenizer(self._load, None, lambda: templates)

    def __repr__(self) -> str:
        if isinstance(self._load, str):
            return f"Tokenizer({self._load!r})"
        if self._ready is None:
            return "<pygpt.Tokenizer, not read yet>" if self._folder is None else f"<pygpt.Tokenizer of {self._folder}>"
        e = self._ready
        return f"<pygpt.Tokenizer of {e.source}: n_vocab {e.n_vocab}, bos_id {e.bos_id}, eos_id {e.eos_id}>"

    def __reduce__(self) -> tuple[object, ...]:
        load = self._load
        if isinstance(load, str):
            return Tokenizer, (load,)
        return Tokenizer, (_Read(load()), self._folder, _Read(self._templates))

    @property
    def _state(self) -> Encoding | LibraryEncoding:
        if self._ready is None:
            from pygpt.tokenizer import encoding

            with self._lock:
                if self._ready is None and self._load_ready is not None:
                    self._ready = self._load_ready()
                if self._ready is None:
                    load = self._load
                    self._ready = encoding.by_name(load) if isinstance(load, str) else encoding.build(load())
        return self._ready

    @property
    def _templates(self) -> ChatTemplates:
        from pygpt.tokenizer.chat_templates import ChatTemplates

        if self._read_templates is None:
            load = self._load_templates
            self._read_templates = ChatTemplates("this tokenizer") if load is None else load()
        return self._read_templates

    @property
    def n_vocab(self) -> int:
        """One more than the greatest id. A model's own n_vocab may be greater: rows of padding."""
        return self._state.n_vocab

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, if the checkpoint names one."""
        return self._state.bos_id

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, if the checkpoint names one."""
        return self._state.eos_id

    @property
    def fingerprint(self) -> bytes:
        """A hash (BLAKE2b) of the texts of all ids: equal where ids mean the same in two tokenizers."""
        if self._fingerprint is None:
            texts = [(i, text) for i in range(self.n_vocab) if (text := self.decode([i]))]
            self._fingerprint = hashlib.blake2b(repr(texts).encode(), digest_size=16).digest()
        return self._fingerprint

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens, such as <|endoftext|>: ids by their text."""
        return dict(self._state.special)

    @property
    def chat_templates(self) -> dict[str, str]:
        """The checkpoint's chat templates: Jinja by name, "default" where there is one alone; empty: it has none."""
        return dict(self._templates.templates)

    def chat_template(self, name: str | None = None, *, tools: bool = False) -> str:
        """The source of the template that `render` takes, with or without tools. Errors as of `render`."""
        check_type("name", name, str, type(None))
        return self._templates.choose(name, tools)[1]

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        documents: Sequence[Mapping[str, object]] | None = None,
        template: str | None = None,
        variables: Mapping[str, object] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
    ) -> str:
        """The text of a chat as the model was trained to read it: see `Model.render`."""
        from pygpt.tokenizer.template import render

        check_type("template", template, str, type(None))
        check_type("variables", variables, Mapping, type(None))
        if continue_final_message and add_generation_prompt:
            raise ValueError("add_generation_prompt begins a new message: it excludes continue_final_message")
        if add_generation_prompt is None:
            add_generation_prompt = not continue_final_message
        where, source = self._templates.choose(template, bool(tools))
        return render(
            where,
            source,
            messages,
            {**self._templates.tokens, **(variables or {})},
            tools=tools,
            documents=documents,
            add_generation_prompt=not continue_final_message
            if add_generation_prompt is None
            else add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    def encode(
        self, text: str, *, allow_special: bool = False, add_special: bool = True, continues: bool = False
    ) -> list[int]:
        """The ids of a text, with the tokens that the checkpoint puts at the beginning or end of every text (Llama 3's
        begin-of-text, for one) unless `add_special` is false: for a part of a text, or one that has them already.

        A SentencePiece vocabulary puts a space before every text, but not with `continues`: for a text that goes on
        with another one.

        What looks like a special token is plain text unless `allow_special`. A lone surrogate, which UTF-8 cannot
        hold, becomes U+FFFD. A byte that the vocabulary lacks becomes its unknown token; where it has none either,
        TokenizerError. TypeError for what is not a str.
        """
        check_type("text", text, str)
        return self._state.encode(_without_surrogates(text), bool(allow_special), bool(add_special), bool(continues))

    def decode(self, ids: Iterable[int], *, after: Iterable[int] = ()) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. An id without a token, which a model may draw where
        its vocabulary is padded, has no text. ValueError for a negative id, TypeError for what is no integer.

        `after` are the ids before them, if they go on with a text: the space that a SentencePiece vocabulary puts
        before every text is left out at its beginning only.
        """
        return self._state.decode(integers(ids), integers(after))

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for within a text, as UTF-8; perhaps a part of a character, and nothing where an id has
        no token. Errors as of `decode`."""
        return self._state.token_bytes(integers([token])[0])

    def stream(self, *, after: Iterable[int] = ()) -> StreamDecoder:
        """A decoder that takes one id at a time; `after` as in `decode`."""
        return self._state.decoder(integers(after))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write files that `from_folder` reads back: copies of those it was read from, or tokenizer.json. The ids of
        bos and eos are the model configuration's.

        TokenizerError for tiktoken's own encodings, which keep no merges, and for a damaged vocabulary; OSError where
        the folder cannot be written.
        """
        target = _path(folder)
        if self._folder is not None:
            import shutil  # here, because loading a model need not wait for it

            for name in saved_files(self._folder):
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(self._folder / name, target / name)
            return
        if isinstance(self._load, str):
            raise TokenizerError(f"tiktoken's encoding {self._load!r} has no files to save: its name is all it takes")
        from pygpt.tokenizer.export import to_document

        text = json.dumps(to_document(self._load()), ensure_ascii=False)
        (target / FILES[0]).write_bytes(text.encode("utf-8", "replace"))
        self._templates.save(target)


def with_ready(tokenizer: Tokenizer, load_ready: Callable[[], Encoding | None]) -> Tokenizer:
    """The same, which asks this function for the vocabulary made ready before it makes it itself."""
    return Tokenizer(tokenizer._load, tokenizer._folder, tokenizer._load_templates, load_ready)


def _without_surrogates(text: str) -> str:
    """UTF-8 holds no lone surrogates: each becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Read(Generic[_T]):
    """What was read; a class, because functions made inside functions cannot be pickled."""

    def __init__(self, value: _T) -> None:
        self._value = value

    def __call__(self) -> _T:
        return self._value


def saved_files(folder: Path) -> list[str]:
    """The files of a folder that belong to its tokenizer, by their paths in it."""
    found = (path for pattern in (*FILES, *EXTRA_FILES) for path in sorted(folder.glob(pattern)) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in found]


def _path(folder: str | os.PathLike[str]) -> Path:
    check_type("folder", folder, str, os.PathLike)
    return Path(folder)
