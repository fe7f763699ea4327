"""The loop that turns logits into tokens and text: a batch of sequences that come and go at any step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.cancel import CancelToken
from pygpt.generation.params import SamplingParams
from pygpt.generation.results import FinishReason, Piece, TokenLogprob
from pygpt.generation.speculate import Speculation, Speculator
from pygpt.generation.text import Text

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer

_MAX_SEQUENCES = 128  # computed together by `run`: each holds a cache, and more rows make a step hardly more efficient


class Request(NamedTuple):
    """One prompt, to be continued params.n times."""

    prompt: NDArray[np.int32]  # (T,), shorter than the context
    params: SamplingParams
    seed: int
    first_index: int  # of the n sequences' pieces
    cancel: CancelToken
    session: _core.Session | None = None  # holds a beginning of the prompt, less than all of it; None: a new one
    eos_ids: frozenset[int] = frozenset()  # tokens that end it, besides those of the configuration


class Batch:
    """The sequences that a model continues together. One caller at a time.

    What a sequence gets depends on its own request alone, whoever is in the batch with it and whatever is proposed: its
    logits are the same bits, and its draws are keyed on its own seed.
    """

    def __init__(
        self,
        engine: _core.Engine,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        speculator: Speculator | None = None,
    ) -> None:
        self._engine, self._config, self._tokenizer = engine, config, tokenizer
        self._eos_ids = frozenset(config.eos_ids)
        self._rows: list[list[_Sequence]] = []  # sequences that share a session, because their next tokens are equal
        self._speculator = speculator
        self.speculation = Speculation()

    def __len__(self) -> int:
        """How many sequences are unfinished."""
        return sum(map(len, self._rows))

    def admit(self, request: Request) -> None:
        """Take the n sequences of a request in. What its session lacks of the prompt is read once, together with the
        next tokens of the others."""
        session = request.session or self._engine.session()
        sampler = _sampler(request.params, request.seed)
        limit = self._config.n_ctx - len(request.prompt)
        if request.params.max_tokens is not None:
            limit = min(limit, request.params.max_tokens)
        stops = tuple(request.params.stop)
        request = request._replace(eos_ids=request.eos_ids | self._eos_ids)
        self._rows.append(
            [
                _Sequence(request, k, session, sampler, limit, Text(self._tokenizer, stops, request.prompt))
                for k in range(request.params.n)
            ]
        )

    def step(self) -> list[Piece]:
        """Draw the next token of every sequence whose logits are computed, or compute those of all and draw then; drop
        those that end with it: a piece each, in the order in which they came. Those whose requests are cancelled,
        before or meanwhile, end without a token; the computation itself ends within one layer once all of them are.

        After an exception from within the model the batch is as it was before.
        """
        if self._rows and not any(row[0].is_computed for row in self._rows):
            self._compute()
        pieces: list[Piece] = []
        rows: list[list[_Sequence]] = []
        for row in self._rows:
            if row[0].cancel.is_set():
                pieces += [sequence.cut() for sequence in row]
            elif row[0].is_computed:
                pieces += [self._draw(sequence) for sequence in row]
                rows += [[sequence] for sequence in row if sequence.finish_reason is None]
            else:  # came while there was something to draw
                rows.append(row)
        self._rows = rows
        return pieces

    def _compute(self) -> None:
        """Read what is unread, and proposals; all have their next logits then but those that are cancelled."""
        sequences = [row[0] for row in self._rows]
        for sequence in sequences:
            sequence.n_proposed = 0
        n_unread = [len(sequence.unread) for sequence in sequences]
        seconds_before = 0.0
        if self._speculator is not None:
            growing = [row[0] for row, n in zip(self._rows, n_unread, strict=True) if len(row) == n == 1]
            seconds_before = self._speculator.propose(growing)
        n_proposed = [sequence.n_proposed for sequence in sequences]
        begun = time.perf_counter()
        outputs: Sequence[NDArray[np.float32] | None]
        try:
            outputs = self._engine.forward(
                [(sequence.session, sequence.unread) for sequence in sequences],
                output=["all" if n == 1 else "last" for n in n_unread],
                cancel=[sequence.cancel for sequence in sequences],
                tentative=n_proposed,
            )
        except Cancelled:
            return
        if self._speculator is not None and max(n_unread) == 1:
            seconds = time.perf_counter() - begun
            self._speculator.pace.measure(len(sequences), sum(n_proposed), seconds, seconds_before)
        for row, logits in zip(self._rows, outputs, strict=True):
            if logits is not None:
                for sequence in row[1:]:
                    sequence.session = row[0].session.fork()
                for sequence in row:
                    sequence.take(np.atleast_2d(logits))
                self.speculation.n_steps += len(row)
                self.speculation.n_proposed += row[0].n_proposed

    def _draw(self, sequence: _Sequence) -> Piece:
        n_proposed, confidence = sequence.n_proposed, sequence.confidence
        piece = sequence.step(self._engine)
        is_right = sequence.is_computed  # what comes after a wrong one was computed for nothing
        self.speculation.n_tokens += 1
        self.speculation.n_accepted += is_right
        if self._speculator is not None:
            self._speculator.pace.drew()
            if n_proposed:
                self._speculator.pace.judge(confidence, is_right)
        return piece


def run(batch: Batch, requests: Iterable[Request]) -> Iterator[Piece]:
    """The pieces of all requests, which enter the batch in their order as room is made by those that finish."""
    waiting = deque(requests)
    while waiting or len(batch):
        while waiting and (not len(batch) or len(batch) + waiting[0].params.n <= _MAX_SEQUENCES):
            batch.admit(waiting.popleft())
        yield from batch.step()


class _Sequence:
    """One of the n sequences of a request while it grows. It is a `Growing`, which describes what has no words here."""

    def __init__(
        self, request: Request, number: int, session: _core.Session, sampler: _core.Sampler, limit: int, text: Text
    ) -> None:
        self.request = request
        self.session = session
        self.finish_reason: FinishReason | None = None
        self.n_proposed = 0  # tokens, which stand behind the history
        self.confidence = 0  # in the first of them
        self._number = number
        self._sampler = sampler
        self._text = text
        self._length = len(request.prompt)
        self._history = np.empty(self._length + limit, np.int32)  # the prompt and every token after it
        self._history[: self._length] = request.prompt
        self._logits: NDArray[np.float32] | None = None  # of the next token, and of those after each proposed one

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self._history[: self._length]

    @property
    def n_room(self) -> int:
        return len(self._history) - self._length - 1

    @property
    def cancel(self) -> CancelToken:
        return self.request.cancel

    def propose(self, tokens: Sequence[int], confidence: int) -> bool:
        if not self.n_proposed:
            self.confidence = confidence
        for token in tokens:
            self._history[self._length + self.n_proposed] = token
            self.n_proposed += 1
            if token in self.request.eos_ids:
                return False
        return True

    def guess(self, engine: _core.Engine, logits: NDArray[np.float32]) -> int:
        return self._draw(engine, logits, self._length + self.n_proposed)

    @property
    def unread(self) -> NDArray[np.int32]:
        """The tokens that the session does not hold yet: the prompt, then the newest token; and the proposed ones."""
        return self._history[self.session.length : self._length + self.n_proposed]

    @property
    def is_computed(self) -> bool:
        """Whether the logits of the next token are there."""
        return self._logits is not None

    def take(self, logits: NDArray[np.float32]) -> None:
        """(1 + n_proposed, n_vocab)"""
        self._logits = logits

    def step(self, engine: _core.Engine) -> Piece:
        """Draw the next token from its logits. The session keeps it if it was proposed, and the logits after it are the
        next ones."""
        assert self._logits is not None
        logits = self._logits[0]
        token = self._draw(engine, self._processed(logits), self._length)
        if self.n_proposed and token == self._history[self._length]:
            self.session.keep(1)
            self.n_proposed, self.confidence, self._logits = self.n_proposed - 1, self.confidence + 1, self._logits[1:]
        else:
            self.n_proposed, self._logits = 0, None
        self._history[self._length] = token
        self._length += 1
        if token in self.request.eos_ids:
            text, self.finish_reason = self._text.end(), "stop"
        else:
            text, stopped = self._text.push(token)
            if stopped:
                self.finish_reason = "stop"
            elif self._length == len(self._history):
                text, self.finish_reason = text + self._text.cut(), "length"
        logprob = None
        if self.request.params.logprobs is not None:
            logprob = _token_logprob(engine.log_softmax(logits), token, self.request.params.logprobs)
        return self._piece(text, token, logprob)

    def cut(self) -> Piece:
        """The last piece of a sequence that is cancelled."""
        self.finish_reason = "cancelled"
        return self._piece(self._text.cut(), None, None)

    def _draw(self, engine: _core.Engine, logits: NDArray[np.float32], length: int) -> int:
        """The token after the first `length`."""
        tokens, n_prompt = self._history[:length], len(self.request.prompt)
        return self._sampler.draw(engine, logits, tokens, self._number, length, n_prompt)

    def _processed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the request's own function makes of the logits. ValueError: it gives something else."""
        process = self.request.params.logits_processor
        if process is None:
            return logits
        given: NDArray[np.float32] = logits.copy()
        returned = process(self.tokens.copy(), given)
        if returned is None:
            return given
        made: NDArray[Any] = np.asarray(returned)
        if made.shape != logits.shape or made.dtype.kind != "f":
            raise ValueError(
                f"logits_processor must return None or float logits of shape {logits.shape}, not {made.dtype} of shape "
                f"{made.shape}"
            )
        return made.astype(np.float32, order="C")

    def _piece(self, text: str, token: int | None, logprob: TokenLogprob | None) -> Piece:
        return Piece(text, token, self.request.first_index + self._number, self.finish_reason, logprob)


def _sampler(params: SamplingParams, seed: int) -> _core.Sampler:
    values = {name: getattr(params, name) for name in _core.Sampler.options}
    return _core.Sampler(**{**values, "seed": seed})


def _token_logprob(logprobs: NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """The token's log-probability out of all (n_vocab,), and the n_top largest: equal ones by id."""
    n_top = min(n_top, len(logprobs))
    top: tuple[tuple[int, float], ...] = ()
    if n_top:
        least = np.partition(logprobs, len(logprobs) - n_top)[len(logprobs) - n_top]
        ids = np.flatnonzero(logprobs >= least)
        ids = ids[np.argsort(-logprobs[ids], kind="stable")][:n_top]
        top = tuple((int(i), float(logprobs[i])) for i in ids)
    return TokenLogprob(token, float(logprobs[token]), top)
