"""/v1/responses: answers to conversations, in OpenAI's newer form. Nothing is stored."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from pygpt.generation import Layout, SamplingParams
from pygpt.model import Model
from pygpt.server.call import Call
from pygpt.server.endpoint import Events, endpoint
from pygpt.server.errors import ApiError, bad_request
from pygpt.server.openai.answers import new_id
from pygpt.server.openai.chat import check_can_answer
from pygpt.server.openai.formats import TextFormat
from pygpt.server.openai.forms import Form, Sampling, sampling_params
from pygpt.server.openai.logprobs import chat_logprob
from pygpt.server.openai.messages import Function, NamedFunction
from pygpt.server.openai.response_input import Input, to_messages
from pygpt.server.openai.response_items import EventWriter, OutputItems
from pygpt.server.openai.running import Run, new_tokens, schema_of
from pygpt.server.openai.speech import Speech, Spoken
from pygpt.server.openai.tools import Tooling, tooling

_LOGPROBS = "message.output_text.logprobs"


class TextOptions(Form):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: Any = Field(None, description="Ignored.")


class Reasoning(Form):
    """How to think before the answer."""

    effort: str | None = Field(None, description="For the chat template; most know none.")
    summary: Any = Field(None, description="Ignored: reasoning is given as it is.")
    generate_summary: Any = Field(None, description="Ignored.")


class FunctionTool(Function):
    """A function that the model may call."""

    type: Literal["function"]


class NamedFunctionTool(NamedFunction):
    """A function by its name."""

    type: Literal["function"]


class ResponseStreamOptions(Form):
    """How a stream is sent."""

    include_obfuscation: Any = Field(None, description="Ignored: nothing is padded.")


class ResponseForm(Sampling):
    """What /v1/responses takes."""

    model: str
    input: Input = Field(description="A user's text, or a list of items.")
    instructions: str | None = Field(None, description="A system message before the input.")
    max_output_tokens: int | None = Field(
        None, ge=1, description="At most this many new tokens, those of reasoning included; null: until it ends."
    )
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | None = None
    parallel_tool_calls: Any = Field(None, description="Ignored: a model calls as many as it does.")
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = Field(
        None, description="Log-probabilities of the text's tokens; reasoning is never encrypted."
    )
    top_logprobs: int = Field(0, ge=0, le=20, description="With log-probabilities: those of the likeliest tokens.")
    truncation: Literal["disabled"] | None = Field(None, description="What does not fit the context is refused.")
    store: bool = Field(False, description="Must be false: nothing is stored.")
    background: Literal[False] | None = None
    stream: bool = Field(False, description="Send the answer as it comes, as server-sent events.")
    stream_options: ResponseStreamOptions | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="For the chat template's own options.")

    @property
    def has_logprobs(self) -> bool:
        return _LOGPROBS in (self.include or ())

    @property
    def format_options(self) -> dict[str, Any]:
        """The constraint of `text.format`, as options of `SamplingParams`."""
        return {} if self.text is None or self.text.format is None else self.text.format.options()

    def check(self) -> None:
        """ApiError: what is not done here, and fields that do not go together."""
        if self.store:
            raise bad_request("store must be false: this server keeps no answers", param="store")
        if self.top_logprobs and not self.has_logprobs:
            raise bad_request(f"top_logprobs is for include: [{_LOGPROBS!r}] alone", param="top_logprobs")

    @property
    def tooling(self) -> Tooling:
        """ApiError: a choice that cannot be."""
        return tooling(self.tools, self.tool_choice, self.format_options)

    def params(self, max_tokens: int | None, options: Mapping[str, Any]) -> SamplingParams:
        """options: what the text must look like."""
        logprobs = self.top_logprobs if self.has_logprobs else None
        return sampling_params(self, logprobs=logprobs, max_tokens=max_tokens, **options)

    def layout(self, tools: Sequence[Mapping[str, Any]] | None) -> Layout:
        """What the chat template gets besides messages."""
        variables = dict(self.chat_template_kwargs or {})
        if self.reasoning is not None and self.reasoning.effort is not None:
            variables.setdefault("reasoning_effort", self.reasoning.effort)
        return Layout(tools=tools, variables=variables)


class ResponseAnswer(BaseModel):
    """The answer, and what was asked for."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]] = Field(description="Items of type reasoning, message or function_call.")
    usage: dict[str, Any] | None


class ResponseEvent(BaseModel):
    """An event of a stream."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int


@endpoint("POST", "/v1/responses", form=ResponseForm, answer=ResponseAnswer, event=ResponseEvent, errors=(404, 429))
async def create_response(call: Call, form: ResponseForm) -> ResponseAnswer | Response:
    """Answer a text or a conversation."""
    form.check()
    max_tokens = new_tokens(call, "max_output_tokens", form.max_output_tokens)
    tools = form.tooling
    with schema_of("text.format", form.format_options), schema_of("tools", tools.options):
        run = Run(call, form.params(max_tokens, {**form.format_options, **tools.options}))
        entry = await call.model(form.model)
        check_can_answer(entry)
        messages = to_messages(form.input, form.instructions)
        await run.submit("input", entry.scheduler.submit_chat, messages, **form.layout(tools.layout))
    writer = _Writer(form, run, Speech(run.turn, tools.reader(run.turn)), entry.model)
    if form.stream:
        return Events(writer.events(), writer.failed)
    async for _ in writer.events():
        pass
    return ResponseAnswer.model_validate(writer.body)


class _Writer:
    """Writes the answer to one request."""

    def __init__(self, form: ResponseForm, run: Run, speech: Speech, model: Model) -> None:
        self._form, self._run, self._tokenizer = form, run, model.tokenizer
        self._speech = speech
        self._events = EventWriter()
        self._items = OutputItems(self._events)
        self.body: dict[str, Any] = {**_asked(form, run.params), "status": "in_progress"}

    async def events(self) -> AsyncIterator[bytes]:
        """As it comes; `body` is the whole answer at the end."""
        begin = {"response": self.body}
        yield self._events.write("response.created", begin) + self._events.write("response.in_progress", begin)
        async for pieces in self._run:
            out: list[bytes] = []
            for piece in pieces:
                if piece.logprob is not None:
                    self._items.weigh(chat_logprob(self._tokenizer, piece.logprob))
                out += map(self._items.take, self._speech.take(piece))
            if out:
                yield b"".join(out)
        yield self._end()

    def failed(self, error: ApiError) -> bytes:
        """How an error in the midst of it is told."""
        detail = error.body.error
        return self._events.write("error", {"code": detail.code, "message": detail.message, "param": detail.param})

    def _end(self) -> bytes:
        is_cut = self._speech.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        out = self._items.take(Spoken("content", "")) if self._items.is_empty else b""
        out += self._items.close(status)
        count = self._run.count(self._speech.n_tokens, self._speech.n_reasoning)
        self.body |= {
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "completed_at": None if is_cut else int(time.time()),
            "output": self._items.done,
            "usage": {
                "input_tokens": count.prompt,
                "input_tokens_details": {"cached_tokens": count.cached, "cache_write_tokens": 0},
                "output_tokens": count.new,
                "output_tokens_details": {"reasoning_tokens": count.reasoning},
                "total_tokens": count.prompt + count.new,
            },
        }
        return out + self._events.write(f"response.{status}", {"response": self.body})


def _asked(form: ResponseForm, params: SamplingParams) -> dict[str, Any]:
    """A response before there is anything in it."""
    text = {} if form.text is None or form.text.format is None else form.text.format.model_dump(by_alias=True)
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "model": form.model,
        "error": None,
        "incomplete_details": None,
        "instructions": form.instructions,
        "max_output_tokens": form.max_output_tokens,
        "metadata": getattr(form, "metadata", None) or {},
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None if form.reasoning is None else form.reasoning.effort, "summary": None},
        "store": False,
        "temperature": params.temperature,
        "text": {"format": {name: value for name, value in (text or {"type": "text"}).items() if value is not None}},
        "tool_choice": _plain(form.tool_choice) or "auto",
        "tools": [_plain(tool) for tool in form.tools or ()],
        "top_logprobs": form.top_logprobs,
        "top_p": 1.0 if params.top_p is None else params.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _plain(value: object) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
