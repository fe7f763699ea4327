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
        """`tokens`: (T,), T >= 2 for log-probabilities, T >= 1 for an embedding. `restart` has to be the next that is
        called. ValueError: another output."""
        if not isinstance(output, str) or output not in get_args(ReadOutput):
            raise ValueError(f"output must be one of {', '.join(get_args(ReadOutput))}, not {output!r:.80}")
        self.cancel, self.client = cancel, client
        self.n_cached: int | None = None
        self._tokens, self._n_top = tokens, n_top
        self.computes: Literal["all", "hidden"] = "all" if output == "logprobs" else "hidden"

    def restart(self, session: _core.Session) -> None:
        """Read it with an empty session, from its beginning on."""
        self.session, self.shares_page = session, False
        self._n_read = 0
        self._logprobs: list[TokenLogprob] = []
        self._pooling = Pooling()

    @property
    def n_places(self) -> int:
        """How many sequences it counts as."""
        return 1

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(T,) What is read: of a last token nothing is asked but how likely it is."""
        return self._tokens if self.computes == "hidden" else self._tokens[:-1]

    @property
    def n_tokens(self) -> int:
        """How many these are."""
        return len(self.tokens)

    @property
    def longest(self) -> int:
        """They grow no more."""
        return self.n_tokens

    @property
    def unread(self) -> NDArray[np.int32]:
        """What is left of them."""
        return self.tokens[self._n_read :]

    @property
    def is_computed(self) -> bool:
        """Whether nothing is."""
        return self._n_read == self.n_tokens

    def most(self, n_vocab: int) -> int:
        """How many tokens may be read at once."""
        return self.n_tokens if self.computes == "hidden" else max(1, _MOST_LOGITS // n_vocab)

    def take(self, engine: _core.Engine, rows: NDArray[np.float32]) -> None:
        """What was computed of the next tokens, (T, n_vocab) or (T, n_embd)."""
        begin = self._n_read
        self._n_read += len(rows)
        if self.computes == "hidden":
            self._pooling.add(rows)
            return
        targets = self._tokens[begin + 1 : self._n_read + 1].tolist()
        for token, logprobs in zip(targets, engine.log_softmax(rows), strict=True):
            self._logprobs.append(token_logprob(logprobs, token, self._n_top))

    def found(self) -> Found:
        """Log-probabilities of the T - 1 tokens after the first; or (n_embd,), as of `Model.embed`."""
        return self._pooling.finish() if self.computes == "hidden" else tuple(self._logprobs)
