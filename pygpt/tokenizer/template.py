"""Chat templates: from messages to the text that a model was trained on, as transformers' `apply_chat_template` does.

Messages are tables with a "role" and a "content", as in OpenAI's and Hugging Face's APIs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from jinja2 import Template, TemplateError, TemplateSyntaxError

from pygpt._json import shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.sandbox import Complaint, Environment

_REASONING = ("reasoning_content", "thinking", "reasoning")
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
_LINE = 100  # characters of a template's line in a message


def render(
    where: str,
    source: str,
    messages: object,
    variables: Mapping[str, object],
    *,
    tools: object = None,
    documents: object = None,
    add_generation_prompt: bool,
    continue_final_message: bool,
) -> str:
    """The text of messages. `where` stands in errors before the template's line; `variables` are the template's own and
    special tokens.

    ValueError or TypeError for messages, tools or documents that are not as they must be, or that the template itself
    refuses; TokenizerError for a template that fails, that asks for what it must not see, or that does not end.
    """
    chat = [_with_reasoning(_message(m, f"messages[{i}]")) for i, m in enumerate(_sequence(messages, "messages"))]
    if not chat:
        raise ValueError("messages must not be empty")
    values: dict[str, object] = dict(_plain(variables, "variables"))
    for name, entries in (("tools", tools), ("documents", documents)):
        values[name] = (
            None
            if entries is None
            else [_table(entry, f"{name}[{i}]") for i, entry in enumerate(_sequence(entries, name))]
        )
    final = _mark_final(chat, source) if continue_final_message else ""
    values |= {"messages": chat, "add_generation_prompt": add_generation_prompt}
    text = _rendered(where, source, values)
    return _cut_at_mark(text, final, where) if continue_final_message else text


def _rendered(where: str, source: str, values: Mapping[str, object]) -> str:
    try:
        return _compiled(source).render(values)
    except Complaint as error:
        raise ValueError(f"{where} refuses the messages: {error!s:.500} ({_line(error, source)})") from None
    except RecursionError as error:
        raise TokenizerError(f"{where}, {_line(error, source)}: it calls itself too often") from None
    except TemplateSyntaxError as error:
        raise TokenizerError(f"{where}, {_quoted(source, error.lineno)}: {error.message!s:.500}") from None
    except Exception as error:  # a template can raise anything that Python's operators and methods raise
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise TokenizerError(f"{where}, {_line(error, source)}: {kind}{error!s:.500}") from None


def _compiled(source: str) -> Template:
    environment, template = _compile(source)
    environment.begin()
    return template


@functools.lru_cache(maxsize=16)
def _compile(source: str) -> tuple[Environment, Template]:
    environment = Environment()
    environment.begin()
    return environment, environment.from_string(source)


def _line(error: Exception, source: str) -> str:
    """The line of the template where an error was raised, as it stands there."""
    number = 0
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            number = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return _quoted(source, number)


def _quoted(source: str, number: int) -> str:
    lines = source.splitlines()
    text = lines[number - 1].strip() if 1 <= number <= len(lines) else ""
    return f"line {number}: {text[:_LINE]}{'...' if len(text) > _LINE else ''}"


# --- messages -------------------------------------------------------------------------------------------------------


def _sequence(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of tables, not {shown(value)}")
    return value


def _table(value: object, name: str) -> dict[str, Any]:
    plain = _plain(value, name)
    if not isinstance(plain, dict):
        raise TypeError(f"{name} must be a table, not {shown(value)}")
    return plain


def _message(value: object, name: str) -> dict[str, Any]:
    """A message as templates get it: without what is None, which stands for a key that is not there."""
    message = {key: part for key, part in _table(value, name).items() if part is not None}
    if "role" not in message:
        raise ValueError(f'{name} lacks a "role", such as "user"')
    if not isinstance(message["role"], str):
        raise TypeError(f"the role of {name} must be a text, not {shown(message['role'])}")
    return message


def _plain(value: object, name: str) -> Any:
    """The same as JSON has it. Objects with methods would let a template do what they do."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {_plain(key, name): _plain(part, name) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, name) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item(), name)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):  # Pydantic's, as OpenAI's
        return _plain(dump(), name)
    raise TypeError(f"{name} holds a {type(value).__name__}: only what JSON can hold may stand in it")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """A message's reasoning under each name that templates know it by."""
    reasoning = next((message[key] for key in _REASONING if key in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


# --- continuing the last message ------------------------------------------------------------------------------------


def _mark_final(chat: list[dict[str, Any]], source: str) -> str:
    """Puts a mark at the end of the last message's text, and returns the text without it."""
    content = chat[-1].get("content")
    if "content" not in source:
        raise ValueError("continue_final_message: the chat template does not use a message's content")
    if isinstance(content, str):
        chat[-1]["content"] = content + _TAG
        return content
    for part in reversed(content if isinstance(content, list) else []):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            text: str = part["text"]
            part["text"] = text + _TAG
            return text
    raise ValueError("continue_final_message: the last message has no text that could be continued")


def _cut_at_mark(text: str, final: str, where: str) -> str:
    """The rendered text up to the mark; where the template strips what it is given, without whitespace there."""
    at = text.rfind(_TAG.strip())
    if at < 0 or final.strip() not in text:
        raise ValueError(f"continue_final_message: {where} leaves the last message out, or changes it")
    return text[:at] if text.startswith(_TAG, at) else text[:at].rstrip()
