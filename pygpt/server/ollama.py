"""Ollama's /api/chat, /api/generate, /api/tags and /api/version, for clients that know no other."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from pygpt import __version__
from pygpt.generation import CHAT, Layout, SamplingParams, resolve
from pygpt.server.call import Call
from pygpt.server.endpoint import Events, endpoint
from pygpt.server.errors import ApiError, of_input
from pygpt.server.models import Entry
from pygpt.server.openai.answers import dump
from pygpt.server.openai.chat import check_can_answer
from pygpt.server.openai.forms import Form
from pygpt.server.openai.running import Run, new_tokens
from pygpt.server.openai.speech import Called, Said, Speech
from pygpt.server.openai.tools import read_calls

_LATEST = ":latest"  # the tag that Ollama gives to names without one
_OWN_NAMES = {"repeat_penalty": "repetition_penalty"}


class Options(Form):
    """How the next token is chosen; where nothing is said, as by `pygpt.SamplingParams`."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    num_predict: int | None = Field(None, description="At most this many new tokens; below 0: until it ends.")
    num_ctx: Any = Field(None, description="Ignored, as are the next: the server decides.")
    num_batch: Any = None
    num_gpu: Any = None
    num_keep: Any = None
    num_thread: Any = None
    use_mmap: Any = None


class _Asked(Form):
    """What both endpoints take."""

    model: str
    format: Literal["json"] | dict[str, Any] | None = Field(None, description='"json", or a JSON schema.')
    options: Options | None = None
    stream: bool = True
    think: bool | str | None = Field(None, description="For the chat template: whether, or how long, to think.")
    keep_alive: Any = Field(None, description="Ignored: the server decides how long a model stays.")

    def params(self, call: Call) -> SamplingParams:
        """ApiError, by the option's name, for a value that is not allowed."""
        given = {} if self.options is None else self.options.model_dump(exclude_none=True)
        values = {
            _OWN_NAMES.get(name, name): value for name, value in given.items() if not name.startswith(("num_", "use_"))
        }
        n_predict = given.get("num_predict", -1)
        values["max_tokens"] = new_tokens(call, "num_predict", None if n_predict < 0 else n_predict)
        if self.format is not None:
            values["json_schema"] = {"type": "object"} if self.format == "json" else self.format
        try:
            return resolve(CHAT, values)
        except (ValueError, TypeError) as error:
            raise of_input(error) from None

    @property
    def variables(self) -> Mapping[str, Any]:
        """Of the chat template."""
        if self.think is None:
            return {}
        return {"enable_thinking": self.think} if isinstance(self.think, bool) else {"reasoning_effort": self.think}


class OllamaFunction(Form):
    """What is called, and with what."""

    name: str
    arguments: dict[str, Any]
    index: Any = None


class OllamaCall(Form):
    """A call of a function."""

    id: str | None = None
    function: OllamaFunction


class OllamaMessage(Form):
    """A message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates read it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking is not None:
            message["reasoning"] = self.thinking
        if self.tool_name is not None:
            message["name"] = self.tool_name
        if self.tool_calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
                for c in self.tool_calls
            ]
        return message


class OllamaChatForm(_Asked):
    """What /api/chat takes."""

    messages: list[OllamaMessage] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None


class OllamaGenerateForm(_Asked):
    """What /api/generate takes."""

    prompt: str
    system: str | None = None
    raw: bool = Field(False, description="Continue the prompt as it stands, instead of answering it.")


class OllamaAnswer(BaseModel):
    """What is new, in "message" or "response"; with the last of it, counts, and durations in nanoseconds."""

    model: str
    created_at: str
    message: dict[str, Any] | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool
    done_reason: Literal["stop", "length"] | None = None
    total_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class OllamaTags(BaseModel):
    """The models."""

    models: list[dict[str, Any]]


class OllamaVersion(BaseModel):
    """The server's version."""

    version: str


def error_body(error: ApiError) -> Mapping[str, Any]:
    """Errors as Ollama tells of them."""
    return {"error": error.body.error.message}


_LINES = "application/x-ndjson"


@endpoint(
    *("POST", "/api/chat"),
    form=OllamaChatForm,
    answer=OllamaAnswer,
    event=OllamaAnswer,
    errors=(404, 429),
    error_body=error_body,
    event_type=_LINES,
)
async def ollama_chat(call: Call, form: OllamaChatForm) -> Response:
    """Answer a conversation, in Ollama's form."""
    run = Run(call, form.params(call))
    entry = await _model(call, form.model)
    check_can_answer(entry)
    layout = Layout(tools=form.tools, variables=form.variables)
    await run.submit("messages", entry.scheduler.submit_chat, [m.plain() for m in form.messages], **layout)
    speech = Speech(run.turn, read_calls(run.turn) if form.format is None else None)
    return await _respond(form, _Writer(form.model, run, speech, is_chat=True))


@endpoint(
    *("POST", "/api/generate"),
    form=OllamaGenerateForm,
    answer=OllamaAnswer,
    event=OllamaAnswer,
    errors=(404, 429),
    error_body=error_body,
    event_type=_LINES,
)
async def ollama_generate(call: Call, form: OllamaGenerateForm) -> Response:
    """Answer a prompt, or continue it where it is raw or the model has no chat template, in Ollama's form."""
    run = Run(call, form.params(call))
    entry = await _model(call, form.model)
    if form.raw or not entry.model.has_chat_template:
        await run.submit("prompt", entry.scheduler.submit, form.prompt)
        return await _respond(form, _Writer(form.model, run, Speech(None), is_chat=False))
    messages = [] if form.system is None else [{"role": "system", "content": form.system}]
    messages.append({"role": "user", "content": form.prompt})
    await run.submit("prompt", entry.scheduler.submit_chat, messages, variables=form.variables)
    return await _respond(form, _Writer(form.model, run, Speech(run.turn), is_chat=False))


@endpoint("GET", "/api/tags", answer=OllamaTags, error_body=error_body)
async def ollama_tags(call: Call) -> OllamaTags:
    """The models that requests may name, in Ollama's form."""
    models = call.service.models
    modified = datetime.fromtimestamp(models.created, timezone.utc).isoformat()
    details = {"format": "pygpt", "family": "", "families": [], "parameter_size": "", "quantization_level": ""}
    return OllamaTags(
        models=[
            {"name": name, "model": name, "modified_at": modified, "size": 0, "digest": "", "details": details}
            for name in models.names
        ]
    )


@endpoint("GET", "/api/version", answer=OllamaVersion, is_open=True)
async def ollama_version(call: Call) -> OllamaVersion:
    """pygpt's version, in Ollama's form."""
    return OllamaVersion(version=__version__)


ROUTES = [ollama_chat, ollama_generate, ollama_tags, ollama_version]


async def _model(call: Call, name: str) -> Entry:
    known = call.service.models.names
    return await call.model(name if name in known else name.removesuffix(_LATEST))


async def _respond(form: _Asked, writer: _Writer) -> Response:
    if form.stream:
        return Events(writer.lines(), lambda error: _line(error_body(error)), _LINES)
    async for _ in writer.lines():
        pass
    return Response(dump(writer.whole()), media_type="application/json")


class _Writer:
    """Writes the answer to one request."""

    def __init__(self, name: str, run: Run, speech: Speech, *, is_chat: bool) -> None:
        self._name, self._run, self._speech, self._is_chat = name, run, speech, is_chat
        self._begun = self._first = time.perf_counter_ns()

    async def lines(self) -> AsyncIterator[bytes]:
        """As it comes, a line of JSON each."""
        is_first = True
        async for pieces in self._run:
            if is_first:
                is_first, self._first = False, time.perf_counter_ns()
            said = [one for piece in pieces for one in self._speech.take(piece)]
            if said:
                yield b"".join(_line({**self._begin(), **self._told(one), "done": False}) for one in said)
        yield _line({**self._begin(), **self._message(""), **self._end()})

    def whole(self) -> Mapping[str, Any]:
        """All of it at once, at the end."""
        speech = self._speech
        more = {} if speech.reasoning is None else {"thinking": speech.reasoning}
        calls = {"tool_calls": [_call(one) for one in speech.calls]} if speech.calls else {}
        return {**self._begin(), **self._message(speech.content, **more, **calls), **self._end()}

    def _begin(self) -> dict[str, Any]:
        return {"model": self._name, "created_at": datetime.now(timezone.utc).isoformat()}

    def _told(self, one: Said) -> dict[str, Any]:
        if isinstance(one, Called):
            return self._message("", tool_calls=[_call(one)])
        return self._message(one.text) if one.part == "content" else self._message("", thinking=one.text)

    def _message(self, content: str, **more: Any) -> dict[str, Any]:
        if self._is_chat:
            return {"message": {"role": "assistant", "content": content, **more}}
        return {"response": content, **more}

    def _end(self) -> dict[str, Any]:
        now = time.perf_counter_ns()
        return {
            "done": True,
            "done_reason": "length" if self._speech.finish_reason == "length" else "stop",
            "total_duration": now - self._begun,
            "load_duration": 0,
            "prompt_eval_count": self._run.count(0).prompt,
            "prompt_eval_duration": self._first - self._begun,
            "eval_count": self._speech.n_tokens,
            "eval_duration": now - self._first,
        }


def _call(one: Called) -> dict[str, Any]:
    return {"id": one.id, "function": {"name": one.name, "arguments": json.loads(one.arguments)}}


def _line(body: Mapping[str, Any]) -> bytes:
    return dump(body).encode() + b"\n"
