"""/v1/completions: texts that go on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from pygpt.generation import Completion, Prompt, SamplingParams, TokenLogprob
from pygpt.model import Model
from pygpt.server.call import Call
from pygpt.server.endpoint import Events, endpoint, large_response
from pygpt.server.errors import bad_request
from pygpt.server.models import Entry
from pygpt.server.openai.answers import Chunks, Count, Head, Usage, new_head
from pygpt.server.openai.forms import Prompts, Sampling, StreamOptions, check_stream_options, sampling_params, several
from pygpt.server.openai.logprobs import CompletionLogprobs
from pygpt.server.openai.running import Run, finish_reason, new_tokens, read, together, token_ids

_DEFAULT_TOKENS = 16  # OpenAI's
_MAX_LOGPROBS = 20


class CompletionForm(Sampling):
    """What /v1/completions takes."""

    model: str
    prompt: Prompts = Field(description="A text, a list of texts, a list of token ids, or a list of such lists.")
    max_tokens: int | None = Field(
        None, ge=0, description=f"At most this many new tokens; null: {_DEFAULT_TOKENS}. 0 only with echo."
    )
    n: int = Field(1, ge=1, description="How many completions of each prompt.")
    best_of: int | None = Field(
        None, ge=1, description="Make so many, and answer with the n of the highest mean log-probability."
    )
    echo: bool = Field(False, description="Begin the text with the prompt; with logprobs, also those of its tokens.")
    logprobs: int | None = Field(
        None,
        ge=0,
        le=_MAX_LOGPROBS,
        description="Report each token's log-probability, and those of this many likeliest tokens at its place.",
    )
    stream: bool = Field(False, description="Send the text as it comes, as server-sent events.")
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """ApiError: fields that do not go together."""
        check_stream_options(self.stream, self.stream_options)
        if self.best_of is not None and self.best_of < self.n:
            raise bad_request(f"best_of must be at least n, which is {self.n}", param="best_of")
        if self.best_of is not None and self.stream:
            raise bad_request("best_of cannot be streamed: which is best is known at the end", param="best_of")
        if self.max_tokens == 0 and not self.echo:
            raise bad_request("max_tokens must be at least 1, or 0 with echo: true", param="max_tokens")
        if self.max_tokens == 0 and self.stream:
            raise bad_request("max_tokens must be at least 1 in a stream", param="max_tokens")

    def params(self, max_tokens: int | None) -> SamplingParams:
        """For every prompt."""
        n = self.best_of or self.n
        logprobs = 0 if self.logprobs is None and n > self.n else self.logprobs
        return sampling_params(self, n=n, logprobs=logprobs, max_tokens=max_tokens or None)


class LogprobLists(BaseModel):
    """A list of each, with an entry for a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text."""

    index: int
    text: str
    logprobs: LogprobLists | None
    finish_reason: Literal["stop", "length"] | None


class CompletionAnswer(BaseModel):
    """The texts; in a stream, what is new of one of them."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class _Echo(NamedTuple):
    """What stands before the new text of every completion of a prompt."""

    text: str = ""
    n_tokens: int = 0
    first: int | None = None  # the prompt's first token
    logprobs: Sequence[TokenLogprob] = ()  # of its others
    begin: int = 0  # of the tokens' text, before that of the prompt: what begins every text is no part of it


_OBJECT: Literal["text_completion"] = "text_completion"


@endpoint(
    *("POST", "/v1/completions"),
    form=CompletionForm,
    answer=CompletionAnswer,
    event=CompletionAnswer,
    errors=(404, 429),
)
async def create_completion(call: Call, form: CompletionForm) -> Response:
    """Continue a prompt, or several."""
    form.check()
    prompts = several("prompt", form.prompt, call.settings.max_sequences)
    run = Run(call, form.params(new_tokens(call, "max_tokens", form.max_tokens, _DEFAULT_TOKENS)), len(prompts))
    entry = await call.model(form.model)
    writer = _Writer(form, len(prompts), entry.model, new_head("cmpl-", form.model, entry.model))
    if form.echo:
        writer.echoes = await together(_echo(call, entry, prompt, form) for prompt in prompts)
    if form.max_tokens == 0:
        n_prompt = sum(echo.n_tokens for echo in writer.echoes)
        nothing = [[_NOTHING] * form.n for _ in prompts]
        return await large_response(lambda: writer.answer(nothing, Count(n_prompt, 0, 0)), "choices")
    for prompt in prompts:
        await run.submit("prompt", entry.scheduler.submit, prompt)
    if form.stream:
        return Events(writer.chunks(run))
    done = await run.completions()
    n = run.params.n
    n_new = sum(len(one.tokens) for one in done)
    best = [_best(done[first : first + n], form.n) for first in range(0, len(done), n)]
    return await large_response(lambda: writer.answer(best, run.count(n_new)), "choices")


_NOTHING = Completion("", (), "length", (), 0)


async def _echo(call: Call, entry: Entry, prompt: Prompt, form: CompletionForm) -> _Echo:
    """What a prompt's completions begin with."""
    tokens = await token_ids(call, entry, "prompt", prompt)
    text = prompt if isinstance(prompt, str) else await call.run(entry.model.tokenizer.decode, prompt)
    if form.logprobs is None:
        return _Echo(text, len(tokens))
    logprobs = await read(call, entry, "prompt", tokens, output="logprobs", n_top=form.logprobs)
    begin = len(text) - len(b"".join(map(entry.model.tokenizer.token_bytes, tokens)).decode("utf-8", "replace"))
    return _Echo(text, len(tokens), tokens[0], logprobs, begin)


def _best(done: Sequence[Completion], n: int) -> Sequence[Completion]:
    """The n whose tokens are likeliest on average, the best first; all of n as they are."""
    return done if len(done) == n else sorted(done, key=_mean_logprob, reverse=True)[:n]


def _mean_logprob(done: Completion) -> float:
    return math.fsum(one.logprob for one in done.logprobs or ()) / max(len(done.tokens), 1)


class _Writer:
    """Writes the answer to one request."""

    def __init__(self, form: CompletionForm, n_prompts: int, model: Model, head: Head) -> None:
        self._form, self._head = form, head
        self._tokenizer = model.tokenizer if model.has_tokenizer else None
        self.echoes: Sequence[_Echo] = [_Echo()] * n_prompts

    def answer(self, done: Sequence[Sequence[Completion]], count: Count) -> CompletionAnswer:
        """n completions of each prompt."""
        texts = [(echo, one) for echo, its in zip(self.echoes, done, strict=True) for one in its]
        choices = [
            CompletionChoice(
                index=index,
                text=echo.text + one.text,
                logprobs=self._logprobs(echo, one.logprobs),
                finish_reason=finish_reason(one.finish_reason),
            )
            for index, (echo, one) in enumerate(texts)
        ]
        return CompletionAnswer(object=_OBJECT, **self._head._asdict(), choices=choices, usage=count.usage())

    async def chunks(self, run: Run) -> AsyncIterator[bytes]:
        """The same as it comes."""
        form = self._form
        chunks = Chunks(
            self._head, _OBJECT, has_usage=form.stream_options is not None and form.stream_options.include_usage
        )
        echoes = [echo for echo in self.echoes for _ in range(run.params.n)]
        lists = [CompletionLogprobs(self._tokenizer, echo.begin) for echo in echoes]
        n_new = 0
        if form.echo:
            yield b"".join(
                chunks.choice(i, {"text": echo.text}, self._rows(lists[i], echo.logprobs, echo.first))
                for i, echo in enumerate(echoes)
            )
        async for pieces in run:
            out = []
            for piece in pieces:
                n_new += piece.token is not None
                if piece.logprob is None and piece.finish_reason is None:
                    if piece.text:
                        out.append(chunks.text(piece.index, '"text":', piece.text))
                    continue
                rows = self._rows(lists[piece.index], () if piece.logprob is None else (piece.logprob,))
                out.append(chunks.choice(piece.index, {"text": piece.text}, rows, piece.finish_reason))
            if out:
                yield b"".join(out)
        yield chunks.end(run.count(n_new))

    def _logprobs(self, echo: _Echo, logprobs: Sequence[TokenLogprob] | None) -> LogprobLists | None:
        lists = CompletionLogprobs(self._tokenizer, echo.begin)
        rows = self._rows(lists, (*echo.logprobs, *(logprobs or ())), echo.first)
        return None if rows is None else LogprobLists(**rows)

    def _rows(
        self, lists: CompletionLogprobs, logprobs: Sequence[TokenLogprob], first: int | None = None
    ) -> dict[str, list[Any]] | None:
        return None if self._form.logprobs is None else lists.rows(logprobs, first)
