"""`Chat`: a conversation with a model, which reads at each turn what is new, and nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, get_args

from pygpt import generation
from pygpt._json import parse_table
from pygpt.checkpoint.folder import replacing
from pygpt.errors import PygptError, check_type
from pygpt.generation import (
    CancelToken,
    Layout,
    Message,
    PrefixCache,
    SamplingOptions,
    SamplingParams,
    Speculate,
    Turn,
)
from pygpt.generation.prompt import overflow
from pygpt.model import Model
from pygpt.reply import Reply, ReplyStream
from pygpt.tool_calls import ToolCall

if TYPE_CHECKING:
    from typing_extensions import Unpack

Overflow: TypeAlias = Literal["error", "forget"]
_SEEDS = 2**64


class Chat:
    """A conversation with a model that has a chat template. One caller at a time.

        chat = Chat(model, system="Be brief.")
        print(chat.send("What is the capital of France?").text)
        for section in chat.stream("And of Spain?"):
            print(section.text, end="", flush=True)

    It keeps the model's cache from turn to turn, so that a turn reads only what is new; answers are the same bits as
    without it. A turn that fails, or is cancelled before its first token, leaves the conversation as it was.
    """

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        overflow: Overflow = "error",
        params: SamplingParams | None = None,
        speculate: Speculate | None = None,
        draft: Model | None = None,
        **options: Unpack[SamplingOptions],
    ) -> None:
        """A new conversation.

        system: what the model is told before all messages.
        tools, documents, template, variables: as of `Model.render`.
        overflow: where a conversation outgrows the context. "error": `ContextOverflowError`. "forget": the model no
            longer sees the oldest turns: as many as it takes to have half of the context free again. `messages` keeps
            them.
        params and options: the defaults of each turn, as of `Model.chat`; n must be 1.
        speculate, draft: as of `Model.generate`, for all turns.

        TokenizerError: the model has no chat template.
        """
        check_type("model", model, Model)
        check_type("system", system, str, type(None))
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}, not {overflow!r:.80}")
        self._model = model
        self._layout = Layout(tools=tools, documents=documents, template=template, variables=variables)
        model.tokenizer.chat_template(template, tools=bool(tools))
        self._params = _single(generation.resolve(params, dict(options), generation.CHAT))
        self._overflow: Overflow = overflow
        self._speculator = model._speculator(speculate, draft, keeps=True)
        self._cache = PrefixCache(model._engine.session)
        self._messages: list[dict[str, Any]] = []
        self._n_forgotten = 0  # of the messages after the system message
        self._n_retries = 0
        self._open: ReplyStream | None = None
        self.system = system

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far: tables with "role" and "content", and "reasoning" and "tool_calls" where there were
        any. An answer that is still coming, and what it answers, are not among them."""
        return [dict(message) for message in self._messages]

    @property
    def system(self) -> str | None:
        """What the model is told before all messages; may be set at any time."""
        return self._messages[0].get("content") if _n_system(self._messages) else None

    @system.setter
    def system(self, text: str | None) -> None:
        check_type("system", text, str, type(None))
        self._settle()
        rest = self._messages[_n_system(self._messages) :]
        self._messages = [*([] if text is None else [{"role": "system", "content": text}]), *rest]

    @property
    def n_forgotten(self) -> int:
        """How many of the oldest messages the model no longer sees, because the context is full."""
        return self._n_forgotten

    def send(
        self,
        message: str | Message | Sequence[Message],
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Reply:
        """The model's answer to a user's text; or to a message of another role, such as "tool", or several.

        params and options stand in the place of those that the Chat was made with. Raises what `Model.chat` does.
        """
        return self.stream(message, params=params, cancel=cancel, **options).finish()

    def stream(
        self,
        message: str | Message | Sequence[Message] | None,
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[SamplingOptions],
    ) -> ReplyStream:
        """As `send`, but each piece as soon as there is one. None: another answer, as of `retry`. A stream that is not
        read to its end ends with its `close()`, or with the next turn."""
        self._settle()
        resolved = _single(generation.resolve(params or self._params, dict(options)))
        if message is None:
            messages = self._to_retry()
            if resolved.seed is not None and "seed" not in options:
                resolved = replace(resolved, seed=(resolved.seed + self._n_retries + 1) % _SEEDS)
        else:
            messages = self._messages + _new_messages(message)
        turn, n_forgotten = self._fitting(messages, resolved)
        session = self._cache.take(turn.tokens)
        n_read = len(turn.tokens) - session.length
        requests = self._model._requests(
            {"the conversation": turn.tokens}, resolved, cancel, turn=turn, session=session
        )
        stream = generation.start(self._model._parts, requests, self._speculator)

        def end(reply: Reply) -> None:
            self._open = None
            if reply.tokens:
                said: dict[str, Any] = {"role": "assistant", "content": reply.text}
                if reply.tool_calls:
                    said["tool_calls"] = _as_messages_have(reply.tool_calls, self._messages)
                if reply.reasoning is not None:
                    said["reasoning"] = reply.reasoning
                self._messages, self._n_forgotten = [*messages, said], n_forgotten
                self._n_retries = self._n_retries + 1 if message is None else 0

        self._open = ReplyStream(stream, turn, n_read, self._cache.extend, end)
        return self._open

    def retry(
        self,
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Reply:
        """Another answer in the place of the last one. With a seed for all turns, each retry takes the next number.

        ValueError: nothing was said yet.
        """
        return self.stream(None, params=params, cancel=cancel, **options).finish()

    def reset(self) -> None:
        """Begin anew, with the same system message."""
        self._settle()
        self._replace(self._messages[: _n_system(self._messages)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation as JSON: {"messages": [...]}, as datasets for fine-tuning have it. OSError where it
        cannot be written."""
        path = Path(path)
        self._settle()
        text = json.dumps({"messages": self._messages}, ensure_ascii=False, indent=2) + "\n"
        with replacing(path) as partial:
            partial.write_bytes(text.encode("utf-8", "replace"))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that `save` wrote, in the place of this one. ValueError for a file that holds
        something else, OSError for one that cannot be read."""
        path = Path(path)
        try:
            messages = parse_table(path.read_bytes(), str(path), PygptError).get("messages")
        except PygptError as error:
            raise ValueError(str(error)) from None
        if not isinstance(messages, list) or not all(map(_is_message, messages)):
            raise ValueError(f'{path}: not a conversation: {{"messages": [{{"role": ..., "content": ...}}, ...]}}')
        self._settle()
        self._replace(messages)

    def __repr__(self) -> str:
        return f"<pygpt.Chat of {len(self._messages)} messages with {self._model!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Chat holds memory of one model in one process: save() and load() its conversation instead")

    def _settle(self) -> None:
        """End a stream that was left unread: what was said stays said."""
        if self._open is not None:
            self._open.close()

    def _replace(self, messages: list[dict[str, Any]]) -> None:
        self._messages, self._n_forgotten, self._n_retries = messages, 0, 0

    def _to_retry(self) -> list[dict[str, Any]]:
        """The conversation up to the last message that is not the model's."""
        messages = list(self._messages)
        while messages and messages[-1].get("role") == "assistant":
            messages.pop()
        if not messages or messages[-1].get("role") == "system":
            raise ValueError("there is nothing to answer yet")
        return messages

    def _fitting(self, messages: list[dict[str, Any]], params: SamplingParams) -> tuple[Turn, int]:
        """The turn, and how many of the oldest messages it leaves out. ContextOverflowError: there is no room."""
        n_ctx = self._model.config.n_ctx
        room = min(params.max_tokens or n_ctx, n_ctx // 4) if self._overflow == "forget" else 1
        n_forgotten = min(self._n_forgotten, len(messages))
        turn = self._read(messages, n_forgotten)
        if len(turn.tokens) + room > n_ctx and self._overflow == "forget":
            while len(turn.tokens) > n_ctx // 2 and (more := _next_turn(messages, n_forgotten)) is not None:
                n_forgotten = more
                turn = self._read(messages, n_forgotten)
        if len(turn.tokens) >= n_ctx:
            advice = "the message is too long" if self._overflow == "forget" else 'begin anew, or use overflow="forget"'
            raise overflow(
                f"the conversation's {len(turn.tokens)} tokens leave no room for an answer in the context of {n_ctx}: "
                + advice,
                self._model.config,
            )
        return turn, n_forgotten

    def _read(self, messages: list[dict[str, Any]], n_forgotten: int) -> Turn:
        n_system = _n_system(messages)
        seen = [*messages[:n_system], *messages[n_system + n_forgotten :]]
        return generation.read_turn(self._model.tokenizer, self._model.config, seen, self._layout)


def _single(params: SamplingParams) -> SamplingParams:
    if params.n != 1:
        raise ValueError(f"n must be 1, not {params.n}: a conversation has one answer at each turn")
    return params


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str)


def _new_messages(message: object) -> list[dict[str, Any]]:
    """What `Chat.send` was given, as messages."""
    if isinstance(message, str):
        return [{"role": "user", "content": message}]
    several: Sequence[Any] = message if isinstance(message, (list, tuple)) else [message]
    if not several or not all(map(_is_message, several)):
        raise TypeError(f'message must be a text, or messages with a "role" and a "content", not {message!r:.80}')
    return [dict(m) for m in several]


def _as_messages_have(calls: Sequence[ToolCall], messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Calls as templates read them; their ids, by which a message with a result may name them, are counted on."""
    n_before = sum(len(m.get("tool_calls") or ()) for m in messages)
    return [
        {
            "id": f"call{n_before + i:05d}",  # nine letters and digits, as Mistral's template wants them
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments)},
        }
        for i, call in enumerate(calls, 1)
    ]


def _n_system(messages: Sequence[Message]) -> int:
    return int(bool(messages) and messages[0].get("role") == "system")


def _next_turn(messages: Sequence[Message], n_forgotten: int) -> int | None:
    """How many messages to leave out for the next of the user's to be the first; None: it is the last already."""
    after = range(_n_system(messages) + n_forgotten + 1, len(messages))
    found = next((i for i in after if messages[i].get("role") == "user"), None)
    return None if found is None else found - _n_system(messages)
