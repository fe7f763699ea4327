"""What /v1/responses is told: items that become messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

from pygpt.server.openai.forms import Form, list_or_text
from pygpt.server.openai.messages import plain_call

_TEXTS = ("input_text", "output_text", "reasoning_text", "refusal")


class InputPart(Form):
    """A part of an item's content."""

    type: str = Field(description=f"One of {', '.join(_TEXTS)}; parts of other kinds are refused by name.")
    text: str | None = None
    refusal: str | None = None
    annotations: Any = Field(None, description="Ignored.")
    logprobs: Any = Field(None, description="Ignored.")
    image_url: Any = None
    file_id: Any = None
    detail: Any = None

    @model_validator(mode="after")
    def _is_text(self) -> InputPart:
        if self.type not in _TEXTS:
            raise ValueError(f"parts of type {self.type!r:.40} cannot be read: this server reads text")
        if (self.refusal if self.type == "refusal" else self.text) is None:
            raise ValueError(
                f"a part of type {self.type} must have a {'refusal' if self.type == 'refusal' else 'text'}"
            )
        return self


_Content = Annotated[str | list[InputPart], WrapValidator(list_or_text(InputPart, "must be a text or a list of parts"))]


class InputItem(Form):
    """A message, or what else an answer consisted of."""

    type: Literal["message", "reasoning", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: _Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: _Content | None = None
    id: Any = Field(None, description="Ignored, as are the next.")
    status: Any = None
    summary: Any = None
    encrypted_content: Any = None
    phase: Any = None

    @model_validator(mode="after")
    def _is_whole(self) -> InputItem:
        for name in _NEEDED[self.type]:
            if getattr(self, name) is None:
                raise ValueError(f"an item of type {self.type} must have {name}")
        return self


_NEEDED = {
    "message": ("role", "content"),
    "reasoning": (),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}

Input = Annotated[str | list[InputItem], WrapValidator(list_or_text(InputItem, "must be a text or a list of items"))]


def to_messages(given: str | Sequence[InputItem], instructions: str | None) -> list[dict[str, Any]]:
    """The messages as chat templates read them: reasoning and calls of functions belong to the assistant's message
    that they stand beside."""
    messages: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    reasoning: str | None = None
    for item in given:
        if item.type == "reasoning":
            reasoning = _text(item.content)
            continue
        if item.type == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
        elif item.type == "function_call":
            if not messages or messages[-1]["role"] != "assistant" or reasoning:
                messages.append({"role": "assistant", "content": ""})
            call = plain_call(item.call_id, item.name or "", item.arguments or "")
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            role = "system" if item.role == "developer" else item.role
            messages.append({"role": role, "content": _text(item.content)})
        if reasoning and messages[-1]["role"] == "assistant":
            messages[-1]["reasoning"] = reasoning
        reasoning = None
    return messages


def _text(content: str | Sequence[InputPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join((part.refusal if part.type == "refusal" else part.text) or "" for part in content)
