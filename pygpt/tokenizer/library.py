"""What tiktoken cannot express goes through Hugging Face's own library: the rest of what a tokenizer.json may say."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tokenizers

from pygpt.errors import TokenizerError
from pygpt.tokenizer.decoding import StreamDecoder
from pygpt.tokenizer.document import FLAGS
from pygpt.tokenizer.vocabulary import Vocabulary

_T = TypeVar("_T")
_MAX_PIECE = 4096  # characters; the library frees its tree of pieces by recursion, one call a byte
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
_CONTEXT = 8  # ids before a text, at most, that say how it goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Library(Vocabulary):
    """A vocabulary that the library reads; what every kind has counts, whatever the table says."""

    steps: Mapping[str, Any]  # of tokenizer.json: normalizer, pre_tokenizer, model, decoder; they put a space or not


def masked(i: int) -> str:
    """What stands for a token that no text gives: where spaces are spelled, it has one."""
    return f"\U0010ffff {i}"


def _masked(v: Library) -> Mapping[str, Any]:
    """The model, where Unigram would find the text of a special token as any other."""
    model: Mapping[str, Any] = v.steps["model"]
    if model.get("type") != "Unigram":
        return model
    if any(len(token) > _MAX_PIECE for token, _ in model["vocab"]):
        raise TokenizerError(f"{v.source}: a piece of Unigram has more than {_MAX_PIECE} characters")
    special = {*v.special}
    vocab = [(masked(i) if token in special else token, score) for i, (token, score) in enumerate(model["vocab"])]
    return {**model, "vocab": vocab}


def _without_space(step: Any) -> Any:
    """Steps that put no space before a text."""
    if isinstance(step, dict):
        if step.get("type") == "Prepend":
            return step | {"prepend": ""}
        changes = {"add_prefix_space": False, "prepend_scheme": "never"}
        return {key: changes.get(key, _without_space(inside)) for key, inside in step.items() if key != "model"} | {
            key: step[key] for key in ("model",) if key in step
        }
    return [_without_space(inside) for inside in step] if isinstance(step, list) else step


class LibraryEncoding:
    """A vocabulary made ready for use."""

    def __init__(self, v: Library) -> None:
        self.source, self.special, self.bos_id, self.eos_id = v.source, v.special, v.bos_id, v.eos_id
        self.n_vocab = max((*v.tokens.values(), *(t.id for t in v.added))) + 1
        self._prefix, self._suffix = v.prefix, v.suffix
        document = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": t.id, "content": t.text} | {flag: getattr(t, flag) for flag in FLAGS} for t in v.added
            ],
            "post_processor": None,
            **v.steps,
            "model": _masked(v),
        }
        self._tokenizer = self._made(document)
        self._plain = self._made(_without_space(document)) if v.prefix_space else self._tokenizer
        # The library numbers added tokens that follow a gap anew.
        own = {t.id: self._tokenizer.token_to_id(t.text) for t in v.added}
        self._added = {*own.values()}
        self._to_own = {i: other for i, other in own.items() if i != other}
        self._from_own = {other: i for i, other in self._to_own.items()}
        self._lock = threading.Lock()

    def _guarded(self, call: Callable[[], _T]) -> _T:
        """What a call of the library gives; its own panics are no exceptions."""
        try:
            return call()
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise TokenizerError(f"{self.source}: the package tokenizers refuses it: {error}") from error
            raise

    def _made(self, document: Mapping[str, Any]) -> Any:
        text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace").decode()
        return self._guarded(lambda: tokenizers.Tokenizer.from_str(text))

    def encode(self, text: str, allow_special: bool, add_special: bool, continues: bool) -> list[int]:
        """The ids of a text; see `Tokenizer.encode`."""
        with self._lock:  # which special tokens count is a property of the library's object
            ids = self._continued(text, allow_special) if continues else self._begun(text, allow_special)
        if self._from_own:
            ids = [self._from_own.get(i, i) for i in ids]
        return [*self._prefix, *ids, *self._suffix] if add_special else ids

    def _begun(self, text: str, allow_special: bool) -> list[int]:
        ids: list[int] = self._encoded(self._tokenizer, text, allow_special).ids
        return ids

    def _continued(self, text: str, allow_special: bool) -> list[int]:
        """Without a space before it; before what follows the first added token there may be one."""
        found = self._encoded(self._plain, text, allow_special)
        first = next((n for n, i in enumerate(found.ids) if i in self._added), None)
        if first is None:
            return list(found.ids)
        return [*found.ids[:first], *self._begun(text[found.offsets[first][0] :], allow_special)]

    def _encoded(self, tokenizer: Any, text: str, allow_special: bool) -> Any:
        tokenizer.encode_special_tokens = not allow_special
        return self._guarded(lambda: tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int], after: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        before = self._context(after)
        return self.text([*before, *ids])[len(self.text(before)) :]

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`. The library gives texts alone: the name of a byte's token says which it is, and
        of others it is what they add between two parts of one word."""
        name = self._tokenizer.id_to_token(self._to_own.get(token, token)) if token < self.n_vocab else None
        if byte := _BYTE_TOKEN.fullmatch(name or ""):
            return bytes.fromhex(byte[1])
        part = self._part
        if part is None:
            return self.decode([token], [token]).encode("utf-8", "replace")
        beside, text = part
        between = self.text([beside, token, beside])
        return between.removeprefix(text).removesuffix(text).encode("utf-8", "replace")

    @functools.cached_property
    def _part(self) -> tuple[int, str] | None:
        """An id that nothing stands before or after within a word, and its text."""
        texts = ((i, self.text([i])) for i in range(self.n_vocab))
        return next(((i, text) for i, text in texts if text and self.text([i, i]) == 2 * text), None)

    def decoder(self, after: Sequence[int]) -> StreamDecoder:
        """See `Tokenizer.stream`."""
        return _Decoder(self.text, self._context(after))

    def _context(self, after: Sequence[int]) -> list[int]:
        special = {*self.special.values()}
        return [i for i in after[-_CONTEXT:] if i not in special]

    def text(self, ids: Iterable[int]) -> str:
        """The text of ids, from the beginning of a text on."""
        own = [self._to_own.get(i, i) for i in ids if i < self.n_vocab]
        text: str = self._guarded(lambda: self._tokenizer.decode(own, skip_special_tokens=False))
        return text


class _Decoder(StreamDecoder):
    """The text of an id depends on those beside it: so it is what they have together, but for what the others have."""

    def __init__(self, text_of: Callable[[Iterable[int]], str], before: Sequence[int]) -> None:
        self._text_of, self._before = text_of, before
        self._shown, self._ids = [*before], [*before]  # all that is needed of what was given out, and with the rest

    def _push(self, token: int) -> str:
        self._ids.append(token)
        shown, text = self._text_of(self._shown), self._text_of(self._ids)
        if len(text) <= len(shown) or text.endswith("\ufffd"):
            return ""
        self._ids, self._shown = self._ids[len(self._shown) :], self._ids[len(self._shown) :]
        return text[len(shown) :]

    def finish(self) -> str:
        text = self._text_of(self._ids)[len(self._text_of(self._shown)) :]
        self._shown, self._ids = [*self._before], [*self._before]
        return text
