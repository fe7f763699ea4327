"""What a step of the model reads: of what grows all, of prompts a part."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pygpt.generation.reading import Reading
from pygpt.generation.sequence import Request, TokenSequence
from pygpt.generation.turns import Turns

MAX_STEP_TOKENS = 256  # as many as the engine computes at once: where nobody waits for a token

Job: TypeAlias = Request | Reading
"""What a batch is asked for."""

Entry: TypeAlias = list[TokenSequence] | Reading
"""What it has of that: sequences that share a session, because their next tokens are equal; or a text to read."""


def reader_of(entry: Entry) -> TokenSequence | Reading:
    """Whose tokens are read next: those of the first stand for all."""
    return entry if isinstance(entry, Reading) else entry[0]


def job_of(entry: Entry) -> Job:
    """What it is a part of."""
    return entry if isinstance(entry, Reading) else entry[0].request


class Chunk(NamedTuple):
    """What a step reads for an entry."""

    entry: Entry
    tokens: NDArray[np.int32]
    output: Literal["none", "last", "all", "hidden"]
    n_proposed: int


class Planner:
    """Chooses what steps read. Every sequence that grows is part of every step; what is left of its rows, and a quarter
    of them at least, is for prompts, in turns among those who ask."""

    def __init__(self, max_step_tokens: int, n_vocab: int) -> None:
        self._max_step_tokens, self._n_vocab = max_step_tokens, n_vocab
        self._turns = Turns()

    def plan(self, entries: Iterable[Entry]) -> list[Chunk]:
        """The next step's chunks; none where all are cancelled."""
        chunks: list[Chunk] = []
        prompts: dict[str, deque[Entry]] = {}
        n_left = self._max_step_tokens
        for entry in entries:
            reader = reader_of(entry)
            if reader.cancel.is_set():
                continue
            if isinstance(reader, TokenSequence) and reader.n_unread == 1:
                chunks.append(Chunk(entry, reader.unread, "all", reader.n_proposed))
                n_left -= 1 + reader.n_proposed
            else:
                prompts.setdefault(reader.client, deque()).append(entry)
        n_left = max(n_left, self._max_step_tokens // 4, 1)
        while prompts and n_left > 0:
            client = self._turns.next(prompts)
            chunks.append(self._beginning(prompts[client].popleft(), n_left))
            n_left -= len(chunks[-1].tokens)
            self._turns.serve(client)
            if not prompts[client]:
                del prompts[client]
        return chunks

    def _beginning(self, entry: Entry, most: int) -> Chunk:
        """What to read next of a prompt or a text, so many tokens at most."""
        if isinstance(entry, Reading):
            return Chunk(entry, entry.unread[: min(most, entry.most(self._n_vocab))], entry.computes, 0)
        unread = entry[0].unread
        return Chunk(entry, unread[:most], "last" if len(unread) <= most else "none", 0)
