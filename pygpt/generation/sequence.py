"""One sequence while it grows: its tokens, its text, and the draws from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.generation.cancel import CancelToken
from pygpt.generation.constrain import Constraint
from pygpt.generation.logprobs import token_logprob
from pygpt.generation.params import SamplingParams
from pygpt.generation.results import FinishReason, Piece, TokenLogprob
from pygpt.generation.text import Text

_Draw: TypeAlias = tuple[
    _core.Sampler, NDArray[np.float32], NDArray[np.int32], int, int, int, "NDArray[np.uint32] | None"
]
"""What `_core.draw` takes."""


@dataclass(eq=False, slots=True)
class Request:
    """One prompt, to be continued params.n times."""

    prompt: NDArray[np.int32]  # (T,), shorter than the context
    params: SamplingParams
    seed: int
    first_index: int  # of the n sequences' pieces
    cancel: CancelToken
    session: _core.Session | None = None  # holds a beginning of the prompt, less than all of it; None: a new one
    eos_ids: frozenset[int] = frozenset()  # tokens that end it, besides those of the configuration
    client: str = ""  # who asks; nobody is to wait for all that another asks for
    constraint: Constraint | None = None  # what the texts must be
    n_cached: int | None = None  # tokens of the prompt that need not be read; None: it was not admitted yet

    @property
    def n_places(self) -> int:
        """How many sequences it counts as."""
        return self.params.n

    def cancelled_pieces(self) -> list[Piece]:
        """All that comes of a request that was cancelled before it was read."""
        return [Piece("", None, self.first_index + k, "cancelled", None) for k in range(self.params.n)]


class TokenSequence:
    """One of the n sequences of a request while it grows. It is a `Growing`, which describes what has no words here."""

    def __init__(
        self,
        request: Request,
        number: int,
        session: _core.Session,
        sampler: _core.Sampler,
        eos_ids: frozenset[int],
        limit: int,
        text: Text,
    ) -> None:
        self.request = request
        self.session = session
        self.shares_page = True  # another session may hold the one that its next token is written to
        self.finish_reason: FinishReason | None = None
        self.n_proposed = 0  # tokens, which stand behind the history
        self.confidence = 0  # in the first of them
        self._number = number
        self._sampler = sampler
        self._eos_ids = eos_ids
        self._text = text
        self._length = len(request.prompt)
        self._history = np.empty(self._length + limit, np.int32)  # the prompt and every token after it
        self._history[: self._length] = request.prompt
        self.allowed = None if request.constraint is None else request.constraint.begin(eos_ids)
        self._logits: NDArray[np.float32] | None = None  # of the next token, and of those after each proposed one
        self._drawn: int | None = None  # the next token, where it was drawn together with others'

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self._history[: self._length]

    @property
    def n_tokens(self) -> int:
        """How many these are."""
        return self._length

    @property
    def longest(self) -> int:
        """How many they may become."""
        return len(self._history)

    @property
    def client(self) -> str:
        """Who asks."""
        return self.request.client

    @property
    def n_room(self) -> int:
        return len(self._history) - self._length - 1

    @property
    def cancel(self) -> CancelToken:
        return self.request.cancel

    def propose(self, tokens: Sequence[int], confidence: int) -> bool:
        if not self.n_proposed:
            self.confidence = confidence
        fitting = self._fitting(tokens)
        for token in fitting:
            self._history[self._length + self.n_proposed] = token
            self.n_proposed += 1
            if token in self._eos_ids:
                return False
        return len(fitting) == len(tokens)

    def guess(self, engine: _core.Engine, logits: NDArray[np.float32]) -> int:
        mask = None if self.allowed is None else self.allowed.after(self.proposed)
        return _core.draw(engine, [self._draw(logits, self._length + self.n_proposed, mask)])[0]

    @property
    def n_unread(self) -> int:
        """How many tokens the session does not hold yet: those of the prompt, then the newest one."""
        return self._length - self.session.length

    @property
    def proposed(self) -> NDArray[np.int32]:
        """(n_proposed,) Tokens."""
        return self._history[self._length : self._length + self.n_proposed]

    @property
    def unread(self) -> NDArray[np.int32]:
        """Those tokens, and the proposed ones."""
        return self._history[self.session.length : self._length + self.n_proposed]

    @property
    def is_computed(self) -> bool:
        """Whether the logits of the next token are there."""
        return self._logits is not None

    def restart(self, session: _core.Session) -> None:
        """Go on with another session, which holds a beginning of the tokens, less than all."""
        self.session, self.shares_page = session, True
        self.n_proposed, self._logits = 0, None

    def take(self, logits: NDArray[np.float32]) -> None:
        """(1 + n_proposed, n_vocab)"""
        self._logits = logits

    def step(self, engine: _core.Engine) -> Piece:
        """Draw the next token from its logits. The session keeps it if it was proposed, and the logits after it are the
        next ones."""
        assert self._logits is not None
        logits = self._logits[0]
        token, self._drawn = self._drawn, None
        if token is None:
            token = _core.draw(engine, [self._next_draw(self._processed(logits))])[0]
        if self.n_proposed and token == self._history[self._length]:
            self.session.keep(1)
            self.n_proposed, self.confidence, self._logits = self.n_proposed - 1, self.confidence + 1, self._logits[1:]
        else:
            self.n_proposed, self._logits = 0, None
        self._history[self._length] = token
        self._length += 1
        if token in self._eos_ids:
            text, self.finish_reason = self._text.end(), "stop"
        else:
            text, stopped = self._text.push(token)
            is_complete = self.allowed is not None and self.allowed.accept(token)
            if stopped:
                self.finish_reason = "stop"
            elif is_complete:
                text, self.finish_reason = text + self._text.end(), "stop"
            elif self._length == len(self._history):
                text, self.finish_reason = text + self._text.cut(), "length"
        logprob = None
        if self.request.params.logprobs is not None:
            logprob = token_logprob(engine.log_softmax(logits), token, self.request.params.logprobs)
        return self._piece(text, token, logprob)

    def cut(self) -> Piece:
        """The last piece of a sequence that is cancelled."""
        self.finish_reason = "cancelled"
        return self._piece(self._text.cut(), None, None)

    def _fitting(self, tokens: Sequence[int]) -> Sequence[int]:
        """Those of the tokens that may follow the proposed ones: others are not worth a row."""
        if self.allowed is None:
            return tokens
        n_fitting = self.allowed.n_fitting([*self.proposed, *tokens])
        return tokens[: max(0, n_fitting - self.n_proposed)]

    def _next_draw(self, logits: NDArray[np.float32]) -> _Draw:
        """How to draw the next token. ValueError: there is none."""
        return self._draw(logits, self._length, None if self.allowed is None else self.allowed.mask())

    def _draw(self, logits: NDArray[np.float32], length: int, mask: NDArray[np.uint32] | None) -> _Draw:
        """How to draw the token after the first `length`."""
        n_prompt = len(self.request.prompt)
        return self._sampler, logits, self._history[:length], self._number, length, n_prompt, mask

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


def draw_together(engine: _core.Engine, sequences: Sequence[TokenSequence]) -> None:
    """Draw the next tokens of sequences whose logits are computed, for their next `step`: all threads at once. What has
    a function of its own, and all where one fails, is left to that."""
    plain = [s for s in sequences if s.request.params.logits_processor is None]
    try:
        tokens = _core.draw(engine, [s._next_draw(s._logits[0]) for s in plain if s._logits is not None])
    except ValueError:
        return
    for sequence, token in zip(plain, tokens, strict=True):
        sequence._drawn = token


def sampler_of(params: SamplingParams, seed: int) -> _core.Sampler:
    values = {name: getattr(params, name) for name in _core.Sampler.options}
    return _core.Sampler(**{**values, "seed": seed})
