"""The loop that turns logits into tokens and text: a batch of sequences that come and go at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.cancel import CancelToken
from pygpt.generation.params import SamplingParams
from pygpt.generation.results import FinishReason, Piece, TokenLogprob
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
    """The sequences that a model continues together, a token each a step. One caller at a time.

    What a sequence gets depends on its own request alone, whoever is in the batch with it: its logits are the same
    bits, and its draws are keyed on its own seed.
    """

    def __init__(self, engine: _core.Engine, config: ModelConfig, tokenizer: Tokenizer | None) -> None:
        self._engine, self._config, self._tokenizer = engine, config, tokenizer
        self._eos_ids = frozenset(config.eos_ids)
        self._rows: list[list[_Sequence]] = []  # sequences that share a session, because their next tokens are equal

    def __len__(self) -> int:
        """How many sequences are unfinished."""
        return sum(map(len, self._rows))

    def admit(self, request: Request) -> None:
        """Take the n sequences of a request in. The next step reads its prompt, once: what its session lacks of it."""
        session = request.session or self._engine.session()
        sampler = _sampler(request.params, request.seed)
        limit = self._config.n_ctx - len(request.prompt)
        if request.params.max_tokens is not None:
            limit = min(limit, request.params.max_tokens)
        stops = tuple(request.params.stop)
        self._rows.append(
            [
                _Sequence(request, k, session, sampler, limit, Text(self._tokenizer, stops, request.prompt))
                for k in range(request.params.n)
            ]
        )

    def step(self) -> list[Piece]:
        """Draw the next token of every sequence, and drop those that end with it: a piece each, in the order in which
        they came. Those whose requests are cancelled, before or meanwhile, end without a token; the computation itself
        ends within one layer once all of them are.

        After an exception from within the model the batch is as it was before.
        """
        if not self._rows:
            return []
        inputs = [(row[0].session, row[0].unread) for row in self._rows]
        outputs: list[NDArray[np.float32] | None]
        try:
            outputs = self._engine.forward(inputs, cancel=[row[0].request.cancel for row in self._rows])
        except Cancelled:
            outputs = [None] * len(inputs)
        pieces: list[Piece] = []
        rows: list[list[_Sequence]] = []
        for row, logits in zip(self._rows, outputs, strict=True):
            if logits is None:
                pieces += [sequence.cancel() for sequence in row]
                continue
            for sequence in row[1:]:
                sequence.session = row[0].session.fork()
            pieces += [sequence.step(self._engine, logits, self._eos_ids) for sequence in row]
            rows += [[sequence] for sequence in row if sequence.finish_reason is None]
        self._rows = rows
        return pieces


def run(batch: Batch, requests: Iterable[Request]) -> Iterator[Piece]:
    """The pieces of all requests, which enter the batch in their order as room is made by those that finish."""
    waiting = deque(requests)
    while waiting or len(batch):
        while waiting and (not len(batch) or len(batch) + waiting[0].params.n <= _MAX_SEQUENCES):
            batch.admit(waiting.popleft())
        yield from batch.step()


class _Sequence:
    """One of the n sequences of a request while it grows."""

    def __init__(
        self, request: Request, number: int, session: _core.Session, sampler: _core.Sampler, limit: int, text: Text
    ) -> None:
        self.request = request
        self.session = session
        self.finish_reason: FinishReason | None = None
        self._number = number
        self._sampler = sampler
        self._text = text
        self._length = len(request.prompt)
        self._history = np.empty(self._length + limit, np.int32)  # the prompt and every token after it
        self._history[: self._length] = request.prompt

    @property
    def unread(self) -> NDArray[np.int32]:
        """The tokens that the session does not hold yet: the prompt, then the newest token."""
        return self._history[self.session.length : self._length]

    def step(self, engine: _core.Engine, logits: NDArray[np.float32], eos_ids: frozenset[int]) -> Piece:
        """Draw the next token from the (n_vocab,) logits."""
        token = self._sampler.draw(
            engine, logits, self._history[: self._length], self._number, self._length, len(self.request.prompt)
        )
        self._history[self._length] = token
        self._length += 1
        if token in eos_ids or token in self.request.eos_ids:
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

    def cancel(self) -> Piece:
        """The last piece of a sequence that is cut short."""
        self.finish_reason = "cancelled"
        return self._piece(self._text.cut(), None, None)

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
