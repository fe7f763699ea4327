"""`Session`: the key-value cache of one text, for callers who drive the model token by token."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import CheckpointError
from pygpt.generation import cache_file
from pygpt.generation.prefix import n_common, truncated
from pygpt.generation.prompt import as_ids, overflow

if TYPE_CHECKING:
    from pygpt.config import ModelConfig


class Session:
    """The tokens a model has read so far and its cache of them. Made by `Model.session`; one caller at a time.

        session = model.session()
        logits = session.append(model.tokenizer.encode("Once upon"))  # of the token after these
        other = session.fork()  # goes on from here by itself
        session.truncate(1)  # forgets all but the first token
        other.save("once.session")  # for model.load_session

    What a session returns is what the model computes of all its tokens at once, to the bit.
    """

    def __init__(
        self, engine: _core.Engine, config: ModelConfig, core: _core.Session, tokens: NDArray[np.int32]
    ) -> None:
        """Private: use `Model.session`."""
        self._engine = engine
        self._config = config
        self._core = core
        self._tokens = tokens

    @property
    def length(self) -> int:
        """How many tokens the session holds, at most config.n_ctx."""
        return self._core.length

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Those that it holds, (length,)."""
        return np.array(self._tokens)

    def append(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Read (T,) more tokens and return the logits (n_vocab,) of the one after them.

        After an error or Ctrl-C the session is as it was before. ValueError: no tokens, an id outside the vocabulary,
        or another thread is using the session. ContextOverflowError: more than n_ctx tokens in all.
        """
        tokens = as_ids(ids, self._config.n_vocab, "ids")
        if self.length + len(tokens) > self._config.n_ctx:
            raise overflow(
                f"{len(tokens)} more tokens after {self.length} do not fit the context of {self._config.n_ctx} tokens",
                self._config,
            )
        logits: NDArray[np.float32] = self._engine.forward([(self._core, tokens)])[0]
        self._tokens = np.concatenate([self._tokens, tokens])
        return logits

    def fork(self) -> Session:
        """A second session with the same tokens. It shares their memory, and both may go on independently."""
        return Session(self._engine, self._config, self._core.fork(), self._tokens)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on; ValueError unless 0 <= length <= self.length.

        Layers with a window hold what later tokens see, and 256 tokens more: ValueError for a length that is less than
        the greatest that the session had by more than 256, unless it is 0 or all that its next token sees is held.
        """
        if not isinstance(length, Integral) or isinstance(length, bool):
            raise TypeError(f"length must be an integer from 0 to {self.length}, not {length!r:.80}")
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be from 0 to {self.length}, the tokens in the session, not {length}")
        self._core.truncate(int(length))
        self._tokens = self._tokens[:length]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokens and their cache to a file, as a whole or not at all, for `Model.load_session`. It takes as
        much room as the cache takes memory. OSError where it cannot be written."""
        cache_file.write(Path(path), self._engine, self._config, [(self._tokens, self._core)])

    def _beginning_of(self, tokens: NDArray[np.int32]) -> _core.Session | None:
        """A core's session that holds what these (T,) tokens and the session's begin with together, less than T; None:
        nothing, or so little that layers with a window cannot go back to it."""
        return truncated(self._core, n_common(self._tokens, tokens[:-1]))

    def __repr__(self) -> str:
        return f"<pygpt.Session: {self.length} of {self._config.n_ctx} tokens>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Session is memory of one model in one process and cannot be pickled or copied: fork() copies it here; "
            "in another process append the same token ids to a new session, which gives the same bits"
        )


def load_session(path: Path, engine: _core.Engine, config: ModelConfig) -> Session:
    """See `Model.load_session`."""
    sequences = cache_file.read(path, engine, config)
    if len(sequences) != 1:
        raise CheckpointError(f"{path}: holds {len(sequences)} sessions, as a scheduler's prefixes, and not one")
    ((tokens, core),) = sequences
    return Session(engine, config, core, tokens)
