"""/v1/chat/completions: answers to conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from pygpt.generation import Layout, SamplingParams, TokenLogprob
from pygpt.model import Model
from pygpt.server.call import Call
from pygpt.server.endpoint import Events, endpoint, large_response
from pygpt.server.errors import bad_request
from pygpt.server.models import Entry
from pygpt.server.openai.answers import Chunks, Count, Head, Usage, new_head
from pygpt.server.openai.formats import ResponseFormat
from pygpt.server.openai.forms import Sampling, StreamOptions, check_stream_options, sampling_params
from pygpt.server.openai.logprobs import ChatLogprob, chat_logprob
from pygpt.server.openai.messages import ChatMessage, NamedTool, Tool
from pygpt.server.openai.running import Run, new_tokens, schema_of
from pygpt.server.openai.speech import Called, Said, Speech, Spoken
from pygpt.server.openai.tools import Tooling, tooling


class ChatForm(Sampling):
    """What /v1/chat/completions takes."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(
        None, ge=1, description="At most this many new tokens, those of reasoning included; null: until it ends."
    )
    max_tokens: int | None = Field(None, ge=1, description="The older name of max_completion_tokens.")
    n: int = Field(1, ge=1, description="How many answers.")
    logprobs: bool = Field(False, description="Report each token's log-probability.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="With logprobs: also those of this many likeliest tokens at its place."
    )
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: Any = Field(None, description="Ignored: a model calls as many as it does.")
    reasoning_effort: str | None = Field(None, description="For the chat template; most know none.")
    verbosity: Any = Field(None, description="Ignored.")
    modalities: list[Literal["text"]] | None = Field(None, description="Text is all there is.")
    store: Any = Field(None, description="Ignored: nothing is stored.")
    stream: bool = Field(False, description="Send the answer as it comes, as server-sent events.")
    stream_options: StreamOptions | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="For the chat template's own options.")
    documents: list[dict[str, Any]] | None = Field(None, description="Texts to quote, for templates that know them.")
    continue_final_message: bool = Field(False, description="Go on with the last message, instead of a new one.")

    def check(self) -> None:
        """ApiError: fields that do not go together."""
        check_stream_options(self.stream, self.stream_options)
        if self.top_logprobs is not None and not self.logprobs:
            raise bad_request("top_logprobs is for logprobs: true alone", param="top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise bad_request(
                "max_tokens is the older name of max_completion_tokens: give one of the two", param="max_tokens"
            )

    @property
    def format_options(self) -> dict[str, Any]:
        """The constraint of `response_format`, as options of `SamplingParams`."""
        return {} if self.response_format is None else self.response_format.options()

    @property
    def tooling(self) -> Tooling:
        """ApiError: a choice that cannot be."""
        choice = self.tool_choice.function if isinstance(self.tool_choice, NamedTool) else self.tool_choice
        return tooling([tool.function for tool in self.tools or ()], choice, self.format_options)

    def params(self, max_tokens: int | None, options: Mapping[str, Any]) -> SamplingParams:
        """options: what the text must look like."""
        return sampling_params(
            self,
            n=self.n,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            max_tokens=max_tokens,
            **options,
        )

    def layout(self, tools: Sequence[Mapping[str, Any]] | None) -> Layout:
        """What the chat template gets besides messages."""
        variables = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", self.reasoning_effort)
        return Layout(
            tools=tools,
            documents=self.documents,
            variables=variables,
            continue_final_message=self.continue_final_message,
        )


class ChatLogprobs(BaseModel):
    """Of all tokens of an answer."""

    content: list[ChatLogprob]


class CalledFunction(BaseModel):
    """What is called, and with what."""

    name: str
    arguments: str  # JSON


class AnswerCall(BaseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None
    tool_calls: list[AnswerCall] | None
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatAnswer(BaseModel):
    """The answers."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class DeltaCall(AnswerCall):
    """A call of a tool, as a whole."""

    index: int


class Delta(BaseModel):
    """What is new of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[DeltaCall] | None = None


class ChunkChoice(BaseModel):
    """What is new of one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(BaseModel):
    """What is new."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


@endpoint(
    *("POST", "/v1/chat/completions"),
    form=ChatForm,
    answer=ChatAnswer,
    event=ChatChunk,
    errors=(404, 429),
)
async def create_chat_completion(call: Call, form: ChatForm) -> Response:
    """Answer a conversation."""
    form.check()
    field = "max_completion_tokens" if form.max_tokens is None else "max_tokens"
    max_tokens = new_tokens(call, field, getattr(form, field))
    tools = form.tooling
    with schema_of("response_format", form.format_options), schema_of("tools", tools.options):
        run = Run(call, form.params(max_tokens, {**form.format_options, **tools.options}))
        entry = await call.model(form.model)
        check_can_answer(entry)
        messages = [message.plain() for message in form.messages]
        await run.submit("messages", entry.scheduler.submit_chat, messages, **form.layout(tools.layout))
    speeches = [Speech(run.turn, tools.reader(run.turn)) for _ in range(form.n)]
    writer = _Writer(form, run, speeches, entry.model, new_head("chatcmpl-", form.model, entry.model))
    return Events(writer.chunks()) if form.stream else await writer.answer()


def check_can_answer(entry: Entry) -> None:
    """ApiError: the model has no chat template."""
    if not entry.model.has_chat_template:
        message = f"the model {entry.name!r} has no chat template: it continues texts, at /v1/completions"
        raise bad_request(message, param="model", code="no_chat_template")


class _Writer:
    """Writes the answer to one request."""

    def __init__(self, form: ChatForm, run: Run, speeches: Sequence[Speech], model: Model, head: Head) -> None:
        self._form, self._run, self._head = form, run, head
        self._tokenizer = model.tokenizer
        self._speeches = speeches

    async def answer(self) -> Response:
        """Once it has come."""
        async for pieces in self._run:
            for piece in pieces:
                self._speeches[piece.index].take(piece)
        return await large_response(self._answer, "choices")

    def _answer(self) -> ChatAnswer:
        choices = [
            ChatChoice.model_validate(
                {
                    "index": index,
                    "message": {
                        "role": "assistant",
                        "content": speech.content or (None if speech.calls else ""),
                        "reasoning_content": speech.reasoning,
                        "tool_calls": [_call(one) for one in speech.calls] or None,
                    },
                    "logprobs": self._logprobs(speech.logprobs),
                    "finish_reason": speech.finish_reason,
                }
            )
            for index, speech in enumerate(self._speeches)
        ]
        return ChatAnswer(
            object="chat.completion", **self._head._asdict(), choices=choices, usage=self._count().usage()
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """As it comes."""
        options = self._form.stream_options
        chunks = Chunks(self._head, "chat.completion.chunk", has_usage=options is not None and options.include_usage)
        out = [chunks.choice(i, {"delta": _FIRST}) for i in range(self._form.n)]
        async for pieces in self._run:
            for piece in pieces:
                speech = self._speeches[piece.index]
                said = speech.take(piece)
                logprobs = None if piece.logprob is None else self._logprobs((piece.logprob,))
                for one in said:
                    if isinstance(one, Spoken) and logprobs is None:
                        out.append(chunks.text(piece.index, _BEFORE[one.part], one.text, "}"))
                        continue
                    out.append(chunks.choice(piece.index, {"delta": _delta(one, speech)}, logprobs))
                    logprobs = None
                if logprobs is not None or piece.finish_reason is not None:
                    reason = None if piece.finish_reason is None else speech.finish_reason
                    out.append(chunks.choice(piece.index, {"delta": {}}, logprobs, reason))
            if out:
                yield b"".join(out)
                out = []
        yield chunks.end(self._count())

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        return {"content": [chat_logprob(self._tokenizer, one) for one in logprobs]} if self._form.logprobs else None

    def _count(self) -> Count:
        n_new, n_reasoning = (sum(n) for n in zip(*((s.n_tokens, s.n_reasoning) for s in self._speeches), strict=True))
        return self._run.count(n_new, n_reasoning)


_FIRST = {"role": "assistant", "content": ""}
_NAME = {"content": "content", "reasoning": "reasoning_content"}
_BEFORE = {part: f'"delta":{{"{name}":' for part, name in _NAME.items()}


def _call(one: Called) -> dict[str, Any]:
    return {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}


def _delta(one: Said, speech: Speech) -> dict[str, Any]:
    if isinstance(one, Spoken):
        return {_NAME[one.part]: one.text}
    return {"tool_calls": [{"index": speech.calls.index(one), **_call(one)}]}
