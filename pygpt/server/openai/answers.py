"""What all answers have: a head, usage, and the chunks of a stream around the text that changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from pygpt import __version__
from pygpt.model import Model

DONE = b"data: [DONE]\n\n"


class PromptTokensDetails(BaseModel):
    """Of the tokens of a prompt."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """Of the new tokens."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Tokens of a request and of its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Count(NamedTuple):
    """Tokens of a request and of its answer."""

    prompt: int
    cached: int  # of the prompt's
    new: int
    reasoning: int = 0  # of the new ones

    def usage(self) -> Usage:
        """As completions and chat have it."""
        return Usage(
            prompt_tokens=self.prompt,
            completion_tokens=self.new,
            total_tokens=self.prompt + self.new,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self.cached),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=self.reasoning),
        )


class Head(NamedTuple):
    """What an answer begins with, and every chunk of a stream."""

    id: str
    created: int  # Unix time in seconds
    model: str
    system_fingerprint: str


def new_head(prefix: str, name: str, model: Model) -> Head:
    """Of an answer of a model that has this name here."""
    return Head(new_id(prefix), int(time.time()), name, fingerprint(model))


def new_id(prefix: str) -> str:
    return prefix + os.urandom(12).hex()


def fingerprint(model: Model) -> str:
    """Names what the bits of an answer depend on besides the checkpoint and the request: nothing of the machine."""
    return f"pygpt-{__version__}-{model.weights}-{model.kv}"


def dump(body: object) -> str:
    """JSON, without spaces."""
    return json.dumps(body, separators=(",", ":"))


def event(body: object) -> bytes:
    """A server-sent event."""
    return f"data: {dump(body)}\n\n".encode()


class Chunks:
    """The chunks of a stream. Most of them differ in nothing but a choice's number and text: the rest of those is made
    once."""

    def __init__(self, head: Head, kind: str, *, has_usage: bool) -> None:
        """kind: the name of the "object"."""
        self._table = {"id": head.id, "object": kind, **head._asdict()}
        self._usage: dict[str, None] = {"usage": None} if has_usage else {}
        self._begin = f'data: {dump(self._table)[:-1]},"choices":[{{"index":'
        self._end = ',"logprobs":null,"finish_reason":null}]' + ',"usage":null' * has_usage + "}\n\n"

    def text(self, index: int, before: str, text: str, after: str = "") -> bytes:
        """A choice's next text, between what stands around it within the choice."""
        return f"{self._begin}{index},{before}{json.dumps(text)}{after}{self._end}".encode()

    def choice(
        self, index: int, content: Mapping[str, Any], logprobs: object = None, finish_reason: str | None = None
    ) -> bytes:
        """Whatever else there is to say of a choice."""
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": finish_reason}
        return event({**self._table, "choices": [choice], **self._usage})

    def end(self, count: Count) -> bytes:
        """What comes after the last choice."""
        last = {**self._table, "choices": [], "usage": count.usage().model_dump()}
        return (event(last) if self._usage else b"") + DONE
