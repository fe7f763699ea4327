"""`PrefixCache`: the cache of a text that grows, or changes at its end, from one prompt to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pygpt import _core


class PrefixCache:
    """Keeps what a model read for one prompt, so that the next one reads only what the two do not share.

    Results are the same bits as without it. One caller at a time.
    """

    def __init__(self, new_session: Callable[[], _core.Session]) -> None:
        self._new_session = new_session
        self._tokens: list[int] = []  # of the last prompt, and those that were generated after it
        self._n_prompt = 0
        self._sessions: list[_core.Session] = []  # that hold some of the tokens, from the first on

    def take(self, prompt: NDArray[np.int32]) -> _core.Session:
        """A session that holds as much of the (T,) prompt as is cached, and less than all of it. It is to be given to
        the request that continues the prompt, whose tokens `extend` is then told."""
        session = self._longest(self._common(prompt)) or self._new_session()
        self._sessions = [session]
        self._tokens, self._n_prompt = prompt.tolist(), len(prompt)
        return session

    @property
    def n_tokens(self) -> int:
        """Of the last prompt, and those that were generated after it."""
        return len(self._tokens)

    def extend(self, token: int) -> None:
        """The next token that was generated. The session need not have read it yet."""
        if len(self._tokens) == self._n_prompt:
            # A next prompt may show the answer otherwise, or without its reasoning. Layers with a window cannot go back
            # far, so the state before the answer is kept beside the one after it. They share their memory.
            self._sessions.append(self._sessions[0].fork())
        self._tokens.append(token)

    def _common(self, prompt: NDArray[np.int32]) -> int:
        """How many tokens the prompt and the cached text begin with together, less than the prompt's."""
        n = min(len(prompt) - 1, len(self._tokens))
        different = np.flatnonzero(prompt[:n] != np.array(self._tokens[:n], np.int32))
        return int(different[0]) if len(different) else n

    def _longest(self, n_common: int) -> _core.Session | None:
        """The session that holds most of the first `n_common` tokens, and nothing else."""
        for session in sorted(self._sessions, key=lambda s: min(s.length, n_common), reverse=True):
            try:
                session.truncate(min(session.length, n_common))
            except ValueError:  # a layer with a window has forgotten what it would need
                continue
            return session
        return None
