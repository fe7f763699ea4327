"""Messages and tools of a conversation, as OpenAI's chat form has them and as chat templates read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

from pygpt.server.openai.forms import Form, list_or_text


class ContentPart(Form):
    """A part of a message's content."""

    type: str = Field(description='"text", or "refusal" of an answer; parts of other kinds are refused by name.')
    text: str | None = None
    refusal: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None

    @model_validator(mode="after")
    def _is_text(self) -> ContentPart:
        if self.type not in ("text", "refusal"):
            raise ValueError(f"parts of type {self.type!r:.40} cannot be read: this server reads text")
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} must have a {self.type}")
        return self

    def read(self) -> str:
        return (self.text if self.type == "text" else self.refusal) or ""


Content = Annotated[
    str | list[ContentPart], WrapValidator(list_or_text(ContentPart, "must be a text or a list of parts"))
]


class FunctionCall(Form):
    """A call of a function."""

    name: str
    arguments: str = Field("{}", description="A JSON table, as a text.")


class ToolCall(Form):
    """What an assistant asked for."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = Field(None, description="Ignored; streams have it.")


class ChatMessage(Form):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    reasoning_content: str | None = Field(None, description="What the assistant thought before it answered.")
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    annotations: Any = Field(None, description="Ignored: answers to OpenAI's own tools have it.")

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal)):
            raise ValueError("a message must have content")
        return self

    def plain(self) -> dict[str, Any]:
        """As chat templates read it."""
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role}
        message["content"] = self.refusal or "" if self.content is None else joined(self.content)
        rest = {"name": self.name, "reasoning": self.reasoning_content, "tool_call_id": self.tool_call_id}
        message |= {name: value for name, value in rest.items() if value is not None}
        if self.tool_calls:
            message["tool_calls"] = [plain_call(c.id, c.function.name, c.function.arguments) for c in self.tool_calls]
        return message


def joined(content: str | Sequence[ContentPart]) -> str:
    """The text of a content: templates know no parts. Other servers put line breaks between parts as well."""
    return content if isinstance(content, str) else "\n".join(part.read() for part in content)


def plain_call(call_id: str | None, name: str, arguments: str) -> dict[str, Any]:
    """A call as chat templates read it, where arguments are a table, if they are one at all."""
    try:
        table = json.loads(arguments)
    except (ValueError, RecursionError):
        table = None
    function = {"name": name, "arguments": table if isinstance(table, dict) else arguments}
    return {"type": "function", "function": function, **({} if call_id is None else {"id": call_id})}


class Function(Form):
    """A function that a model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of its arguments.")
    strict: bool | None = Field(None, description="Ignored: where arguments are held to the schema, they always are.")

    def plain(self) -> dict[str, Any]:
        """As chat templates read it."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}


class Tool(Form):
    """A tool that a model may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(Form):
    """A function by its name."""

    name: str


class NamedTool(Form):
    """A tool by its name."""

    type: Literal["function"]
    function: NamedFunction
