"""`pygpt chat`: a conversation with a model."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pygpt import Chat, SamplingParams
from pygpt.cli._common import (
    MODEL,
    Draft,
    Isa,
    Kv,
    NCtx,
    Speculate,
    Threads,
    Weights,
    check_proposals,
    describe_speculation,
    load_draft,
    load_model,
    read_text,
    template_of,
)
from pygpt.cli._input import QUOTES, Messages, history
from pygpt.cli._options import with_fields
from pygpt.cli._sampling import NAMES, read_params
from pygpt.cli._screen import Screen, open_screen
from pygpt.errors import PygptError, TokenizerError
from pygpt.generation import CHAT

_DEFAULT = "smollm2"
_COMMAND = re.compile(r"/[a-z]*(?=\s|$)")


@with_fields(SamplingParams, more=NAMES, defaults=CHAT, without=("n", "logprobs"))
def chat(
    model: Annotated[str, typer.Argument(help=MODEL)] = _DEFAULT,
    message: Annotated[
        str | None,
        typer.Argument(help='Answer this alone; "-" reads it from standard input.', show_default="a conversation"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before all messages.")] = None,
    load: Annotated[str | None, typer.Option(help="Go on with a conversation that /save wrote.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="One of the model's chat templates, or a file of your own.", show_default="the model's"),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the template, such as enable_thinking=false."),
    ] = None,
    markdown: Annotated[bool | None, typer.Option(help="Show Markdown.", show_default="on a terminal")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens, times and speed to standard error.")] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
    n_ctx: NCtx = None,
    speculate: Speculate = None,
    draft: Draft = None,
    *,
    given: dict[str, Any],
) -> None:
    """Talk with a model that was trained to answer. /help in the conversation lists what else it understands; piped in,
    each line is a message."""
    params = read_params(given)
    check_proposals(speculate, draft)
    variables = dict(map(_variable, variable or ()))
    if message is not None:
        message = read_text(message, "MESSAGE")
        if not message.strip():
            raise typer.BadParameter("is empty", param_hint="MESSAGE")
    loaded = load_model(model, weights, kv, threads, isa, n_ctx)
    template = template_of(template)
    if template is None and not loaded.has_chat_template:
        raise TokenizerError(
            f"{model} was not trained to answer: it has no chat template. `pygpt generate -m {model}` continues a text "
            f"with it; `pygpt chat {_DEFAULT}` is a conversation with a model that was"
        )
    conversation = Chat(
        loaded,
        system=system,
        template=template,
        variables=variables,
        overflow="forget",
        params=params,
        speculate=speculate,
        draft=load_draft(draft, weights, kv, threads, isa),
    )
    if load is not None:
        conversation.load(load)
    talk = _Talk(conversation, open_screen(markdown), stats)
    if message is not None:
        talk.answer(message)
    else:
        talk.run(Messages())


def _variable(text: str) -> tuple[str, object]:
    """NAME=VALUE; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class _Talk:
    """A conversation and its commands, which are the methods that `_COMMANDS` names."""

    def __init__(self, chat: Chat, screen: Screen, stats: bool) -> None:
        self._chat, self._screen, self._stats = chat, screen, stats

    def run(self, messages: Messages) -> None:
        """Read messages and answer them, to the end of the input. Ctrl-C ends an answer or empties a line. From a
        terminal, a mistake is said and the conversation goes on; a script ends with it."""
        if not messages.is_terminal:
            while self._turn(messages.read):
                pass
            return
        self._screen.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves")
        with history():
            while self._safe_turn(messages.read):
                pass
        typer.echo()

    def _safe_turn(self, read: Callable[[], str]) -> bool:
        try:
            return self._turn(read)
        except KeyboardInterrupt:
            typer.echo()
        except BrokenPipeError:
            raise
        except (PygptError, ValueError, TypeError, OSError) as error:
            self._screen.note(f"error: {error}")
        return True

    def _turn(self, read: Callable[[], str]) -> bool:
        """One message, or command; whether the conversation goes on."""
        try:
            text = read()
        except EOFError:
            return False
        found = _COMMAND.match(text)
        if found is None:
            if text.strip():
                self.answer(text)
            return True
        if found[0] in ("/exit", "/quit", "/bye"):
            return False
        command = _COMMANDS.get(found[0])
        if command is None:
            raise ValueError(f"{found[0]} is no command: /help lists them")
        command[1](self, text[found.end() :].strip())
        return True

    def answer(self, message: str | None) -> None:
        """Say the answer to a message, or another one to the last message. Ctrl-C ends it; what was said stays."""
        n_forgotten = self._chat.n_forgotten
        started = time.perf_counter()
        stream = self._chat.stream(message)
        first = None
        try:
            for section in stream:
                first = first or time.perf_counter()
                self._screen.show(section)
        finally:
            stream.close()
            self._screen.end()
        reply = stream.reply
        if reply is None:
            return
        if self._chat.n_forgotten > n_forgotten:
            self._screen.note(f"(the context is full: the first {self._chat.n_forgotten} messages are forgotten)")
        if reply.finish_reason == "length":
            self._screen.note("(cut short: by --max-tokens, or because the context is full)")
        if self._stats:
            seconds = time.perf_counter() - (first or started)
            n_after = len(reply.tokens) - 1
            speed = f"{n_after / seconds:.1f} tokens/s" if n_after > 0 and seconds > 0 else "no more"
            typer.echo(
                f"{reply.n_read} of {reply.n_prompt} tokens read, first text {(first or started) - started:.3f} s, "
                f"{len(reply.tokens)} tokens, then {speed}; seed {reply.seed}"
                + describe_speculation(stream.speculation),
                err=True,
            )

    def _help(self, rest: str) -> None:
        for name, (meaning, _) in _COMMANDS.items():
            self._screen.note(f"{name:<9}{meaning}")
        self._screen.note(f"{'/exit':<9}leave, as Ctrl-D does")
        self._screen.note(
            f"a \\ at the end of a line, or {QUOTES} before and after several lines, makes one message of them"
        )

    def _reset(self, rest: str) -> None:
        self._chat.reset()
        self._screen.note("a new conversation")

    def _retry(self, rest: str) -> None:
        self.answer(None)

    def _system(self, rest: str) -> None:
        if rest:
            self._chat.system = rest
        self._screen.note(f"system: {self._chat.system or '(nothing)'}")

    def _save(self, rest: str) -> None:
        path = _one_file(rest, "/save")
        self._chat.save(path)
        self._screen.note(f"saved to {path}")

    def _load(self, rest: str) -> None:
        self._chat.load(_one_file(rest, "/load"))
        self._screen.note(f"{len(self._chat.messages)} messages")


def _one_file(rest: str, command: str) -> str:
    try:
        names = shlex.split(rest)
    except ValueError:
        names = []
    if len(names) != 1:
        raise ValueError(f"{command} takes the name of one file")
    return names[0]


_COMMANDS: dict[str, tuple[str, Callable[[_Talk, str], None]]] = {
    "/help": ("this list", _Talk._help),
    "/reset": ("begin a new conversation", _Talk._reset),
    "/retry": ("another answer to the last message", _Talk._retry),
    "/system": ("show what the model is told before all messages; with a text, change it", _Talk._system),
    "/save": ("write the conversation to a file", _Talk._save),
    "/load": ("go on with a conversation from a file", _Talk._load),
}
