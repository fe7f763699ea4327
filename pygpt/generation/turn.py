"""A conversation as a model reads it: the text and tokens that its answer continues, and what ends that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from pygpt.config import ModelConfig
from pygpt.errors import TokenizerError
from pygpt.generation.params import SamplingOptions
from pygpt.generation.prompt import as_ids
from pygpt.generation.reasoning import Marks, find_marks
from pygpt.generation.results import Progress
from pygpt.generation.session import Session
from pygpt.generation.speculate import SpeculateOptions
from pygpt.tokenizer import Tokenizer
from pygpt.tool_calls import CallFormat, CallSplitter, find_format

Message: TypeAlias = Mapping[str, Any]
"""A "role" ("system", "user", "assistant", "tool"), its "content", and what else the template knows."""


class Layout(TypedDict, total=False):
    """What a chat template gets besides messages, as keyword arguments: see `Model.render`."""

    tools: Sequence[Mapping[str, Any]] | None
    documents: Sequence[Mapping[str, Any]] | None
    template: str | None
    variables: Mapping[str, Any] | None
    continue_final_message: bool


class GenerateOptions(SamplingOptions, SpeculateOptions, total=False):
    """The keyword arguments of `Model.generate`, for type checkers."""

    prefix: Session | None
    progress: Progress | None


class ChatOptions(Layout, SamplingOptions, SpeculateOptions, total=False):
    """The keyword arguments of `Model.chat`, for type checkers."""

    progress: Progress | None


class Turn(NamedTuple):
    """What an answer continues."""

    text: str
    tokens: NDArray[np.int32]  # (T,)
    eos_ids: frozenset[int]  # end the answer, besides the configuration's
    marks: Marks | None  # tell its reasoning from the rest
    calls: CallFormat | None = None  # how it calls tools; None: it was given none
    tool_names: frozenset[str] = frozenset()

    def call_splitter(self) -> CallSplitter | None:
        """What tells calls of tools from the answer's text; None: there are no tools."""
        return None if self.calls is None else CallSplitter(self.calls, self.tool_names)


def read_turn(tokenizer: Tokenizer, config: ModelConfig, messages: Sequence[Message], layout: Layout) -> Turn:
    """Lay out messages by the model's template. Special tokens in the text are read as such, and no others are added.

    Raises what `Model.chat` does.
    """
    text = tokenizer.render(messages, **layout)
    tokens = as_ids(tokenizer.encode(text, allow_special=True, add_special=False), config.n_vocab, "the conversation")
    template = tokenizer.chat_template(layout.get("template"), tools=bool(layout.get("tools")))
    marks = find_marks(template, lambda mark: len(tokenizer.encode(mark, allow_special=True, add_special=False)) == 1)
    inner = {mark for table in (marks or {}).values() for mark in table}
    ends = {tokenizer.eos_id, _end_of_turn(tokenizer, layout.get("template"), inner)}
    turn = Turn(text, tokens, frozenset(i for i in ends if i is not None), marks)
    tools = layout.get("tools") or ()
    return turn._replace(calls=find_format(template), tool_names=frozenset(map(_name, tools))) if tools else turn


def _name(tool: Mapping[str, Any]) -> str:
    """A tool's name, which some templates want a level deeper."""
    function = tool.get("function")
    return str((function if isinstance(function, Mapping) else tool).get("name"))


_QUESTION, _ANSWER = {"role": "user", "content": "?"}, "An answer."


def _end_of_turn(tokenizer: Tokenizer, template: str | None, inner: set[str]) -> int | None:
    """The special token that the template puts right after an answer: not every configuration names it. One that may
    stand within an answer, where its reasoning ends, is none."""
    try:
        messages = [_QUESTION, {"role": "assistant", "content": _ANSWER}]
        text = tokenizer.render(messages, template=template, add_generation_prompt=False)
    except (TokenizerError, ValueError, TypeError):  # a template may want other messages
        return None
    _, answer, rest = text.rpartition(_ANSWER)
    special = tokenizer.special_tokens
    found = max((t for t in special if answer and rest.lstrip().startswith(t)), key=len, default=None)
    if found is None or any(mark.startswith(found) for mark in inner):
        return None
    return special[found]
