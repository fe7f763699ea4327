"""What a step reads: sequences of tokens, each a window of a text, or documents side by side that are kept apart.

Packing: documents shorter than the context are put together to sequences of at most that length, each into the fullest
one that has room, the longest first (best-fit decreasing; Ding et al. 2024, arXiv:2404.10830), and attention sees each
alone (Krell et al. 2021, arXiv:2107.02027). A document that is longer is cut: each part begins with the last token of
the one before, so that every token is predicted once.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TrainingError
from pygpt.training.batches import shuffled
from pygpt.training.data import Dataset, Tokens
from pygpt.training.primitives import Ids


class Document(NamedTuple):
    """Tokens that are read, and the one to predict after each, or -1."""

    ids: Ids  # (t,)
    targets: Ids  # (t,)


class Rows(NamedTuple):
    """Sequences side by side."""

    ids: Ids  # (B, T)
    targets: Ids  # (B, T); -1: none
    positions: Ids | None  # (B, T): as `Network.hidden` takes them

    @property
    def n_targets(self) -> int:
        """Tokens to predict."""
        return int(np.count_nonzero(self.targets >= 0))

    def parts(self, n: int) -> Iterator[Rows]:
        """At most n sequences at a time."""
        for at in range(0, len(self.ids), n):
            ids, targets = self.ids[at : at + n], self.targets[at : at + n]
            yield Rows(ids, targets, None if self.positions is None else self.positions[at : at + n])


def side_by_side(sequences: Sequence[Sequence[Document]]) -> Rows:
    """Sequences of documents as rows of the longest one's length; what is left over is a document that counts for
    nothing."""
    n_token = max(sum(len(d.ids) for d in documents) for documents in sequences)
    ids = np.zeros((len(sequences), n_token), np.int32)
    targets = np.full_like(ids, -1)
    positions = np.zeros_like(ids)
    for row, documents in enumerate(sequences):
        at = 0
        for document in documents:
            part = slice(at, at + len(document.ids))
            ids[row, part], targets[row, part] = document
            positions[row, part] = np.arange(len(document.ids))
            at = part.stop
        positions[row, at:] = np.arange(n_token - at)
    is_whole = all(len(documents) == 1 and len(documents[0].ids) == n_token for documents in sequences)
    return Rows(ids, targets, None if is_whole else positions)


class Reader(Protocol):
    """A data set as sequences."""

    n_train: int
    """Tokens of the training data."""
    n_validation: int
    n_sequences: float
    """Of the training data, read once."""
    tokens_per_byte: float | None
    """Of the validation text; None for what is not all to be predicted."""

    def sequence(self, draw: int, number: int, seed: int) -> list[Document]:
        """One for training: of the random number `draw`, or the `number`-th of all that this data set gave."""
        ...

    def held_out(self, n: int) -> list[list[Document]]:
        """At most n of the validation data, evenly spread over it."""
        ...


class Windows:
    """Windows of n_ctx tokens from anywhere in a text, across its documents."""

    def __init__(self, dataset: Dataset, n_ctx: int) -> None:
        """TrainingError: a text shorter than the context."""
        dataset.check(n_ctx)
        self._dataset, self._n_ctx = dataset, n_ctx
        self.n_train, self.n_validation = len(dataset.train), len(dataset.validation)
        self.n_sequences = self.n_train / n_ctx
        self.tokens_per_byte: float | None = self.n_validation / dataset.n_bytes

    def sequence(self, draw: int, number: int, seed: int) -> list[Document]:
        """Each start is as likely as any other."""
        return self._window(self._dataset.train, draw % (self.n_train - self._n_ctx))

    def held_out(self, n: int) -> list[list[Document]]:
        """From the first token to the last; no two overlap."""
        n = min(n, (self.n_validation - 1) // self._n_ctx)
        starts = np.arange(n) * (self.n_validation - self._n_ctx - 1) // max(n - 1, 1)
        return [self._window(self._dataset.validation, int(start)) for start in starts]

    def _window(self, tokens: Tokens, start: int) -> list[Document]:
        both = tokens[start : start + self._n_ctx + 1].astype(np.int32)
        return [Document(both[:-1], both[1:])]


class Documents(Protocol):
    """Documents by their numbers, none of which has more tokens than a sequence."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Document: ...

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each."""
        ...


class Listed(list[Document]):
    """Documents in memory."""

    @property
    def lengths(self) -> Sequence[int]:
        return [len(document.ids) for document in self]


class TextDocuments:
    """A text's documents, in parts of at most n_ctx tokens, which are read when they are asked for."""

    def __init__(self, tokens: Tokens, n_ctx: int, end: int | None, begin: int | None) -> None:
        """`end` follows each; `begin`, or else `end`, is what is read before its first token. A vocabulary that has
        neither leaves one document, whose first token is not predicted."""
        self._tokens, self._first = tokens, begin if begin is not None else end
        ends = np.flatnonzero(tokens == end) + 1 if end is not None else np.zeros(0, np.int64)
        bounds = np.unique(np.concatenate(([0], ends, [len(tokens)])))
        skipped = 0 if self._first is not None else 1
        self._parts = [
            (at, min(at + n_ctx, stop), at == start)
            for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
            for at in range(start + skipped, stop, n_ctx)
        ]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int, /) -> Document:
        start, stop, is_first = self._parts[number]
        targets = self._tokens[start:stop].astype(np.int32)
        before = self._first if is_first else int(self._tokens[start - 1])
        return Document(np.concatenate((np.array([before], np.int32), targets[:-1])), targets)

    @property
    def lengths(self) -> Sequence[int]:
        return [stop - start for start, stop, _ in self._parts]


class Packed:
    """Whole documents side by side, each kept apart; all of them once before any of them again."""

    def __init__(self, train: Documents, validation: Documents, n_ctx: int, n_bytes: int | None = None) -> None:
        """Documents of at most n_ctx tokens; n_bytes: of the validation text. TrainingError: none."""
        for name, part in (("training", train), ("validation", validation)):
            if not len(part):
                raise TrainingError(f"the {name} data has no document with a token to predict")
        self._train, self._validation = train, validation
        self._sequences, self._held_out = pack(train.lengths, n_ctx), pack(validation.lengths, n_ctx)
        self.n_train, self.n_validation = sum(train.lengths), sum(validation.lengths)
        self.n_sequences: float = len(self._sequences)
        self.tokens_per_byte = None if n_bytes is None else self.n_validation / n_bytes
        self._order: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def sequence(self, draw: int, number: int, seed: int) -> list[Document]:
        """In an order that is a function of (seed, epoch)."""
        epoch, at = divmod(number, len(self._sequences))
        if self._order is None or self._order[0] != (seed, epoch):
            self._order = (seed, epoch), shuffled(len(self._sequences), seed, epoch)
        return [self._train[i] for i in self._sequences[self._order[1][at]]]

    def held_out(self, n: int) -> list[list[Document]]:
        """Whole sequences."""
        n = min(n, len(self._held_out))
        chosen = np.arange(n) * (len(self._held_out) - 1) // max(n - 1, 1)
        return [[self._validation[i] for i in self._held_out[k]] for k in chosen]


def pack(lengths: Sequence[int], n_ctx: int) -> list[list[int]]:
    """The numbers of the documents in each sequence. ValueError: one is longer than n_ctx, or empty."""
    if lengths and not 1 <= min(lengths) <= max(lengths) <= n_ctx:
        raise ValueError(f"documents must have from 1 to {n_ctx} tokens, not {min(lengths)} to {max(lengths)}")
    sequences: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # the room that is left in a sequence, and its number; sorted
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect.bisect_left(rooms, (lengths[i], -1))
        if at == len(rooms):
            room, k = n_ctx, len(sequences)
            sequences.append([])
        else:
            room, k = rooms.pop(at)
        sequences[k].append(i)
        bisect.insort(rooms, (room - lengths[i], k))
    return sequences


def reader(dataset: Dataset, n_ctx: int, *, packed: bool) -> Windows | Packed:
    """A text in tokens as windows, or as documents kept apart. TrainingError: too short."""
    if not packed:
        return Windows(dataset, n_ctx)
    tokenizer = dataset.tokenizer
    train, validation = (
        TextDocuments(tokens, n_ctx, tokenizer.eos_id, tokenizer.bos_id)
        for tokens in (dataset.train, dataset.validation)
    )
    return Packed(train, validation, n_ctx, dataset.n_bytes)
