"""A text that is only read: how likely its tokens are, or one vector for it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.embedding import Pooling
from pygpt.generation.cancel import CancelToken
from pygpt.generation.logprobs import token_logprob
from pygpt.generation.results import TokenLogprob

ReadOutput: TypeAlias = Literal["logprobs", "embedding"]
Found: TypeAlias = tuple[TokenLogprob, ...] | NDArray[np.float32]
_MOST_LOGITS = 2**23  # that are in memory at once


class Reading:
    """A text on its way through the model, part by part: what is found is the same however it is cut."""

    def __init__(
        self, tokens: NDArray[np.int32], output: ReadOutput, n_top: int, cancel: CancelToken, client: str
    ) -> None:
        """`tokens`: (T,), T >= 2 for log-probabilities, T >= 1 for an embedding. ValueError: another output."""
        if not isinstance(output, str) or output not in get_args(ReadOutput):
            raise ValueError(f"output must be one of {', '.join(get_args(ReadOutput))}, not {output!r:.80}")
        self.cancel, self.client = cancel, client
        self.n_cached: int | None = None
        self.session: _core.Session | None = None
        self._tokens = tokens
        self._n_top = n_top
        self._n_read = 0
        self._logprobs: list[TokenLogprob] | None = [] if output == "logprobs" else None
        self._pooling = Pooling()

    @property
    def n_places(self) -> int:
        """How many sequences it counts as."""
        return 1

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(T,) What is read: nothing needs to be computed of a last token's log-probability's own."""
        return self._tokens if self._logprobs is None else self._tokens[:-1]

    @property
    def unread(self) -> NDArray[np.int32]:
        """What is left of it."""
        return self.tokens[self._n_read :]

    @property
    def output(self) -> Literal["all", "hidden"]:
        """What the engine is to compute of each token."""
        return "hidden" if self._logprobs is None else "all"

    def most(self, n_vocab: int) -> int:
        """How many tokens may be read at once."""
        return len(self._tokens) if self._logprobs is None else max(1, _MOST_LOGITS // n_vocab)

    def take(self, engine: _core.Engine, rows: NDArray[np.float32]) -> None:
        """What was computed of the next tokens, (T, n_vocab) or (T, n_embd)."""
        begin = self._n_read
        self._n_read += len(rows)
        if self._logprobs is None:
            self._pooling.add(rows)
            return
        targets = self._tokens[begin + 1 : self._n_read + 1].tolist()
        for token, logprobs in zip(targets, engine.log_softmax(rows), strict=True):
            self._logprobs.append(token_logprob(logprobs, token, self._n_top))

    @property
    def found(self) -> Found | None:
        """Log-probabilities of the T - 1 tokens after the first; or (n_embd,), as of `Model.embed`. None: there is more
        to read."""
        if len(self.unread):
            return None
        return self._pooling.finish() if self._logprobs is None else tuple(self._logprobs)
