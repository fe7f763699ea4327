"""What a text must look like: `response_format` of chat, `text.format` of responses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pygpt.server.openai.forms import Form

_ANY_TABLE = {"type": "object"}


class JsonSchema(Form):
    """A schema and its name."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="A JSON schema; null: any table.")
    strict: bool | None = Field(None, description="Ignored: the text always follows the schema.")


class ResponseFormat(Form):
    """What an answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError('json_schema and type "json_schema" go together')
        return self

    def options(self) -> dict[str, Any]:
        """Of `SamplingParams`."""
        return options(self.type, None if self.json_schema is None else self.json_schema.schema_)


class TextFormat(Form):
    """What a text must look like, as /v1/responses has it."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="A JSON schema.")
    strict: bool | None = Field(None, description="Ignored: the text always follows the schema.")

    @model_validator(mode="after")
    def _has_schema(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError('schema and type "json_schema" go together')
        return self

    def options(self) -> dict[str, Any]:
        """Of `SamplingParams`."""
        return options(self.type, self.schema_)


def options(kind: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    """The constraint of a format."""
    return {} if kind == "text" else {"json_schema": _ANY_TABLE if schema is None else schema}
