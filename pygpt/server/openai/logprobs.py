"""Log-probabilities of tokens as the answers of completions and of chat list them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from pygpt.generation import TokenLogprob
from pygpt.tokenizer import Tokenizer

_LEAST = -9999.0  # what OpenAI writes for less: JSON has no infinity


def token_bytes(tokenizer: Tokenizer | None, token: int) -> bytes:
    """What a token stands for within a text."""
    return b"" if tokenizer is None else tokenizer.token_bytes(token)


def shown(data: bytes) -> str:
    """The text of a token; bytes that are no whole characters are written out."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)


class CompletionLogprobs:
    """The lists of /v1/completions, as a text grows."""

    def __init__(self, tokenizer: Tokenizer | None, begin: int = 0) -> None:
        """begin: where the first token's text would begin within the answer's."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = begin  # in characters

    def rows(self, logprobs: Iterable[TokenLogprob], first: int | None = None) -> dict[str, list[Any]]:
        """The lists for tokens that come next; `first` is one before them that nothing is known of, as that of a
        prompt."""
        tokens: list[str] = []
        values: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        offsets: list[int] = []
        if first is not None:
            tokens.append(self._text(first))
            values.append(None)
            tops.append(None)
            offsets.append(self._move(first))
        for one in logprobs:
            top: dict[str, float] = {}
            for token, logprob in (*one.top, (one.token, one.logprob)):
                top.setdefault(self._text(token), max(logprob, _LEAST))
            tokens.append(self._text(one.token))
            values.append(max(one.logprob, _LEAST))
            tops.append(top)
            offsets.append(self._move(one.token))
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _text(self, token: int) -> str:
        data = token_bytes(self._tokenizer, token)
        text = shown(data)
        return text if data == text.encode() else f"bytes:{text}"

    def _move(self, token: int) -> int:
        """The offset of the token, before that of the next."""
        offset = max(self._offset, 0)
        self._offset += len(self._decoder.decode(token_bytes(self._tokenizer, token)))
        return offset


class TopLogprob(BaseModel):
    """A token and how likely it is."""

    token: str
    bytes: list[int]
    logprob: float


class ChatLogprob(TopLogprob):
    """A token of an answer, and the likeliest ones at its place."""

    top_logprobs: list[TopLogprob]


def chat_logprob(tokenizer: Tokenizer | None, one: TokenLogprob) -> dict[str, Any]:
    """A `ChatLogprob`."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = token_bytes(tokenizer, token)
        return {"token": shown(data), "bytes": list(data), "logprob": max(logprob, _LEAST)}

    return {**entry(one.token, one.logprob), "top_logprobs": [entry(*other) for other in one.top]}
