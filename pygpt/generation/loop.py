"""The loop that turns logits into tokens and text: a batch of sequences that come and go at any step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.constrain import Beside
from pygpt.generation.reading import Found, Reading
from pygpt.generation.results import Piece
from pygpt.generation.sequence import Request, TokenSequence, sampler_of
from pygpt.generation.speculate import Speculation, Speculator
from pygpt.generation.text import Text
from pygpt.generation.turns import Turns

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer

MAX_STEP_TOKENS = 256  # rows of a step: as many as the engine computes at once
_MAX_SEQUENCES = 128  # computed together by `run`: each holds a cache, and more rows make a step hardly more efficient


_Row: TypeAlias = list[TokenSequence]


Job: TypeAlias = Request | Reading
"""What a batch is asked for."""


class Outcome(NamedTuple):
    """What a step did for one of those who ask."""

    job: Job
    pieces: list[Piece]
    error: Exception | None = None  # it failed: there is no more of it
    found: Found | None = None  # of a reading, which ends with it


class Prefixes(Protocol):
    """Keeps what was read, for those who read the same."""

    def take(self, tokens: NDArray[np.int32]) -> _core.Session | None:
        """A session of one's own that holds a beginning of these (T,) tokens, less than all; None: nothing is kept."""

    def give(self, tokens: NDArray[np.int32], session: _core.Session) -> None:
        """The session holds just these tokens. Whoever gives it goes on with it: a fork can be kept."""


class _Chunk(NamedTuple):
    """What a step reads for sequences that share a session, or for a reading."""

    reader: TokenSequence | Reading  # the first of the sequences
    row: _Row
    session: _core.Session
    tokens: NDArray[np.int32]
    output: Literal["none", "last", "all", "hidden"]
    n_proposed: int


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
        *,
        max_step_tokens: int = MAX_STEP_TOKENS,
        prefixes: Prefixes | None = None,
    ) -> None:
        """A step reads `max_step_tokens` at most, as long as a quarter of them is left for prompts."""
        self._engine, self._config, self._tokenizer = engine, config, tokenizer
        self._eos_ids = frozenset(config.eos_ids)
        self._rows: list[
            list[TokenSequence]
        ] = []  # sequences that share a session, because their next tokens are equal
        self._readings: list[Reading] = []
        self._speculator, self._prefixes = speculator, prefixes
        self._max_step_tokens = max_step_tokens
        self._turns = Turns()
        self._beside = Beside()
        self.speculation = Speculation()
        self.n_read = 0  # tokens that were computed

    def __len__(self) -> int:
        """How many sequences are unfinished."""
        return sum(map(len, self._rows)) + len(self._readings)

    def admit(self, job: Job) -> None:
        """Take a reading or the n sequences of a request in. What its session lacks of the prompt is read once, beside
        the next tokens of the others."""
        if isinstance(job, Reading):
            job.session, job.n_cached = self._engine.session(), 0
            self._readings.append(job)
        else:
            self._admit(job)

    def _admit(self, request: Request) -> None:
        session = request.session
        if session is None and self._prefixes is not None:
            session = self._prefixes.take(request.prompt)
        if session is None:
            session = self._engine.session()
        sampler = sampler_of(request.params, request.seed)
        limit = self._config.n_ctx - len(request.prompt)
        if request.params.max_tokens is not None:
            limit = min(limit, request.params.max_tokens)
        stops, eos_ids = tuple(request.params.stop), request.eos_ids | self._eos_ids
        self._rows.append(
            [
                TokenSequence(
                    request, k, session, sampler, eos_ids, limit, Text(self._tokenizer, stops, request.prompt)
                )
                for k in range(request.params.n)
            ]
        )
        request.n_cached = session.length

    def clear(self) -> None:
        """Drop all sequences."""
        self._rows, self._readings = [], []

    def step(self) -> list[Outcome]:
        """Draw the next token of every sequence whose logits are computed, or compute what a step may and draw then;
        drop those that end with it: a piece each, in the order in which they came. Those whose requests are cancelled,
        before or meanwhile, end without a token; the computation itself ends within one layer once all of them are. A
        request for which drawing fails is dropped with its error.

        After an exception from within the model the batch is as it was before.
        """
        if not any(row[0].is_computed for row in self._rows):
            self._compute()
        outcomes = self._draw_all()
        for reading in self._readings:
            if reading.cancel.is_set():
                outcomes.append(Outcome(reading, [], Cancelled("the text was not read to its end")))
            elif (found := reading.found) is not None:
                outcomes.append(Outcome(reading, [], None, found))
        ended = {outcome.job for outcome in outcomes if isinstance(outcome.job, Reading)}
        self._readings = [reading for reading in self._readings if reading not in ended]
        return outcomes

    def _draw_all(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        rows: list[_Row] = []
        failed: set[Request] = set()
        for row in self._rows:
            request = row[0].request
            error = None
            if request.cancel.is_set():
                pieces = [sequence.cut() for sequence in row]
            elif row[0].is_computed:
                try:
                    pieces = [self._draw(sequence) for sequence in row]
                except Exception as e:
                    pieces, error = [], e
                    failed.add(request)
                rows += [[sequence] for sequence in row if sequence.finish_reason is None]
            else:  # more of its prompt is to be read
                rows.append(row)
                continue
            if outcomes and outcomes[-1].job is request:
                pieces = outcomes.pop().pieces + pieces
            outcomes.append(Outcome(request, pieces, error))
        self._rows = [row for row in rows if row[0].request not in failed] if failed else rows
        return outcomes

    def _compute(self) -> None:
        """Read what is unread, and proposals, as far as a step may."""
        for row in self._rows:
            row[0].n_proposed = 0
        seconds_before = 0.0
        if self._speculator is not None:
            growing = [row[0] for row in self._rows if len(row) == row[0].n_unread == 1]
            seconds_before = self._speculator.propose(growing)
        chunks = self._plan()
        if not chunks:
            return
        masks = self._beside.start(
            [(s.allowed, s.proposed) for c in chunks if c.output != "none" for s in c.row if s.allowed is not None]
        )
        begun = time.perf_counter()
        outputs: Sequence[NDArray[np.float32] | None]
        try:
            outputs = self._engine.forward(
                [(c.session, c.tokens) for c in chunks],
                output=[c.output for c in chunks],
                cancel=[c.reader.cancel for c in chunks],
                tentative=[c.n_proposed for c in chunks],
            )
        except Cancelled:
            return
        finally:
            if masks is not None:
                masks.result()
        seconds = time.perf_counter() - begun
        n_proposed = sum(c.n_proposed for c in chunks)
        n_read = sum(len(c.tokens) for c in chunks)
        if self._speculator is not None and n_read == len(chunks) + n_proposed:
            self._speculator.pace.measure(len(chunks), n_proposed, seconds, seconds_before)
        self.n_read += n_read
        for chunk, output in zip(chunks, outputs, strict=True):
            if output is not None:
                self._take(chunk, output)

    def _plan(self) -> list[_Chunk]:
        """What the next step reads: of what grows all, and of prompts as much as there is room for, in turns among
        those who ask."""
        chunks: list[_Chunk] = []
        prompts: dict[str, deque[_Row | Reading]] = {}
        n_left = self._max_step_tokens
        for row in self._rows:
            first = row[0]
            if first.cancel.is_set():
                continue
            if first.n_unread == 1:
                chunks.append(_Chunk(first, row, first.session, first.unread, "all", first.n_proposed))
                n_left -= 1 + first.n_proposed
            else:
                prompts.setdefault(first.request.client, deque()).append(row)
        for reading in self._readings:
            if not reading.cancel.is_set():
                prompts.setdefault(reading.client, deque()).append(reading)
        n_left = max(n_left, self._max_step_tokens // 4, 1)
        while prompts and n_left > 0:
            client = self._turns.next(prompts)
            chunks.append(self._beginning(prompts[client].popleft(), n_left))
            n_left -= len(chunks[-1].tokens)
            self._turns.serve(client)
            if not prompts[client]:
                del prompts[client]
        return chunks

    def _beginning(self, of: _Row | Reading, most: int) -> _Chunk:
        """What to read next of a prompt or a text, so many tokens at most."""
        if isinstance(of, Reading):
            assert of.session is not None
            tokens = of.unread[: min(most, of.most(self._config.n_vocab))]
            return _Chunk(of, [], of.session, tokens, of.output, 0)
        unread = of[0].unread
        return _Chunk(of[0], of, of[0].session, unread[:most], "last" if len(unread) <= most else "none", 0)

    def _take(self, chunk: _Chunk, output: NDArray[np.float32]) -> None:
        """What a step computed."""
        reader, row = chunk.reader, chunk.row
        if isinstance(reader, Reading):
            reader.take(self._engine, output)
            return
        if chunk.output == "none":
            return
        if chunk.output == "last" and self._prefixes is not None:
            self._prefixes.give(reader.tokens, reader.session)
        for sequence in row[1:]:
            sequence.session = reader.session.fork()
        for sequence in row:
            sequence.take(output if chunk.output == "all" else output[None])
        self.speculation.n_steps += len(row)
        self.speculation.n_proposed += reader.n_proposed

    def _draw(self, sequence: TokenSequence) -> Piece:
        n_proposed, confidence = sequence.n_proposed, sequence.confidence
        piece = sequence.step(self._engine)
        is_right = sequence.is_computed  # what comes after a wrong one was computed for nothing
        self.speculation.n_tokens += 1
        self.speculation.n_accepted += is_right
        if self._speculator is not None:
            self._speculator.pace.drew()
            if n_proposed:
                self._speculator.pace.judge(confidence, is_right)
        if piece.finish_reason is not None and self._prefixes is not None:
            self._prefixes.give(sequence.tokens[: sequence.session.length], sequence.session)
        return piece


def run(batch: Batch, requests: Iterable[Request]) -> Iterator[Piece]:
    """The pieces of all requests, which enter the batch in their order as room is made by those that finish."""
    waiting = deque(requests)
    while waiting or len(batch):
        while waiting and (not len(batch) or len(batch) + waiting[0].params.n <= _MAX_SEQUENCES):
            batch.admit(waiting.popleft())
        for outcome in batch.step():
            if outcome.error is not None:
                raise outcome.error
            yield from outcome.pieces
