"""The loop that turns logits into tokens and text: a batch of sequences that come and go at any step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.constrain import Beside
from pygpt.generation.plan import MAX_STEP_TOKENS, Chunk, Entry, Job, Planner, job_of, reader_of
from pygpt.generation.prefix import PrefixTree, n_common
from pygpt.generation.reading import Found, Reading
from pygpt.generation.results import Piece
from pygpt.generation.sequence import TokenSequence, draw_together, sampler_of
from pygpt.generation.speculate import Speculation, Speculator
from pygpt.generation.text import Text

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer

_WORTH_WAITING = 64  # tokens that need not be read twice


class Outcome(NamedTuple):
    """What a step did for one of those who ask."""

    job: Job
    pieces: list[Piece]
    error: Exception | None = None  # it failed: there is no more of it
    found: Found | None = None  # of a reading, which ends with it


class Batch:
    """The sequences that a model continues together, and the texts that it reads. One caller at a time.

    What a sequence gets depends on its own request alone, whoever is in the batch with it, whatever is proposed and
    however prompts are cut: its logits are the same bits, and its draws are keyed on its own seed.
    """

    def __init__(
        self,
        engine: _core.Engine,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        speculator: Speculator | None = None,
        *,
        max_step_tokens: int = MAX_STEP_TOKENS,
        prefixes: PrefixTree | None = None,
    ) -> None:
        """`max_step_tokens`: see `Planner`. `prefixes`: keeps what is read, for those who read the same."""
        self._engine, self._config, self._tokenizer = engine, config, tokenizer
        self._eos_ids = frozenset(config.eos_ids)
        self._speculator, self.prefixes = speculator, prefixes
        self._beside = Beside()
        self._planner = Planner(max_step_tokens, config.n_vocab)
        self.running: list[Entry] = []  # in the order in which they came
        self.paused: list[Entry] = []  # those that came after them, whose sessions are empty: see `pause`
        self.speculation = Speculation()
        self.n_read = 0  # tokens that were computed

    def __len__(self) -> int:
        """How many sequences and texts are unfinished."""
        return sum(len(e) if isinstance(e, list) else 1 for entries in (self.running, self.paused) for e in entries)

    def admit(self, job: Job) -> None:
        """Take a text or the n sequences of a request in. What its session lacks of a prompt is read once, beside the
        next tokens of the others."""
        if isinstance(job, Reading):
            job.n_cached = 0
            job.restart(self._engine.session())
            self.running.append(job)
            return
        session = job.session or self._session(job.prompt)
        job.n_cached = session.length
        sampler = sampler_of(job.params, job.seed)
        limit = self._config.n_ctx - len(job.prompt)
        if job.params.max_tokens is not None:
            limit = min(limit, job.params.max_tokens)
        texts = [Text(self._tokenizer, tuple(job.params.stop), job.prompt) for _ in range(job.params.n)]
        eos_ids = job.eos_ids | self._eos_ids
        self.running.append([TokenSequence(job, k, session, sampler, eos_ids, limit, t) for k, t in enumerate(texts)])

    def awaits(self, job: Job) -> bool:
        """Whether what a request begins with is being read for another one, which it had better wait for. What was
        read until now is there for those who share no more with it."""
        if self.prefixes is None or isinstance(job, Reading) or job.session is not None:
            return False
        for entry in self.running:
            first = reader_of(entry)
            if isinstance(first, Reading) or first.n_unread <= 1:
                continue
            n = n_common(job.prompt[:-1], first.tokens)
            if n >= _WORTH_WAITING and n - self.prefixes.n_kept(job.prompt) >= _WORTH_WAITING:
                if first.session.length < n and not first.cancel.is_set():
                    return True
                self._keep(entry)
        return False

    def free_prefixes(self) -> bool:
        """Give memory of prefixes back; False: there was none."""
        return self.prefixes is not None and self.prefixes.halve()

    def pause(self) -> None:
        """Free the memory of what came last of all that runs. What it wrote stays; once `resume` lets it, its tokens
        are read again, which gives the same bits; or taken from the prefixes, if they are there still."""
        entry = self.running.pop()
        self._keep(entry)
        self._restart(entry, self._engine.session())
        self.paused.insert(0, entry)

    def resume(self) -> None:
        """Let what was paused and came first go on."""
        entry = self.paused.pop(0)
        if self.prefixes is not None and not isinstance(entry, Reading):
            self._restart(entry, self._session(entry[0].tokens))
        self.running.append(entry)

    def drop(self, job: Job) -> None:
        """Forget all of a request or of a text."""
        self.running = [entry for entry in self.running if job_of(entry) is not job]
        self.paused = [entry for entry in self.paused if job_of(entry) is not job]

    def step(self) -> list[Outcome]:
        """Draw the next token of every sequence whose logits are computed, or compute what a step may and draw then;
        drop those that end with it: a piece each, in the order in which they came. Those whose requests are cancelled,
        before or meanwhile, end without a token; the computation itself ends within one layer once all of them are. A
        request for which drawing fails is dropped with its error.

        After an exception from within the model the batch is as it was before.
        """
        if not any(reader_of(entry).is_computed for entry in self.running):
            self._compute()
        computed = [e for e in self.running if isinstance(e, list) and e[0].is_computed]
        draw_together(self._engine, [sequence for entry in computed for sequence in entry])
        outcomes: list[Outcome] = []
        left: tuple[list[Entry], list[Entry]] = ([], [])
        for entries, stay in zip((self.running, self.paused), left, strict=True):
            for entry in entries:
                outcome, more = self._advance(entry)
                stay += more
                if outcome is not None and outcomes and outcomes[-1].job is outcome.job:
                    before = outcomes.pop()
                    outcome = Outcome(outcome.job, before.pieces + outcome.pieces, before.error or outcome.error)
                if outcome is not None:
                    outcomes.append(outcome)
        self.running, self.paused = left
        for outcome in outcomes:
            if outcome.error is not None:
                self.drop(outcome.job)
        return outcomes

    def _advance(self, entry: Entry) -> tuple[Outcome | None, list[Entry]]:
        """What a step did for an entry, and what is left of it."""
        if isinstance(entry, Reading):
            if entry.cancel.is_set():
                return Outcome(entry, [], Cancelled("the text was not read to its end")), []
            if entry.is_computed:
                return Outcome(entry, [], None, entry.found()), []
            return None, [entry]
        request = entry[0].request
        if request.cancel.is_set():
            self._keep(entry)
            return Outcome(request, [sequence.cut() for sequence in entry]), []
        if not entry[0].is_computed:  # more of its prompt is to be read
            return None, [entry]
        try:
            pieces = [self._draw(sequence) for sequence in entry]
        except Exception as error:
            return Outcome(request, [], error), []
        return Outcome(request, pieces), [[sequence] for sequence in entry if sequence.finish_reason is None]

    def _compute(self) -> None:
        """Read what is unread, and proposals, as far as a step may."""
        seconds_before = 0.0
        if self._speculator is not None:
            single = [entry[0] for entry in self.running if isinstance(entry, list) and len(entry) == 1]
            for sequence in single:
                sequence.n_proposed = 0
            seconds_before = self._speculator.propose([s for s in single if s.n_unread == 1])
        chunks = self._planner.plan(self.running)
        if not chunks:
            return
        masks = self._beside.start(
            [
                (sequence.allowed, sequence.proposed)
                for chunk in chunks
                if isinstance(chunk.entry, list) and chunk.output != "none"
                for sequence in chunk.entry
                if sequence.allowed is not None
            ]
        )
        begun = time.perf_counter()
        readers = [reader_of(chunk.entry) for chunk in chunks]
        outputs: Sequence[NDArray[np.float32] | None]
        try:
            outputs = self._engine.forward(
                [(reader.session, chunk.tokens) for reader, chunk in zip(readers, chunks, strict=True)],
                output=[chunk.output for chunk in chunks],
                cancel=[reader.cancel for reader in readers],
                tentative=[chunk.n_proposed for chunk in chunks],
            )
        except Cancelled:
            return
        finally:
            if masks is not None:
                masks.result()
        seconds = time.perf_counter() - begun
        n_proposed = sum(chunk.n_proposed for chunk in chunks)
        n_read = sum(len(chunk.tokens) for chunk in chunks)
        if self._speculator is not None and n_read == len(chunks) + n_proposed:
            self._speculator.pace.measure(len(chunks), n_proposed, seconds, seconds_before)
        self.n_read += n_read
        for chunk, output in zip(chunks, outputs, strict=True):
            if output is not None:
                self._take(chunk, output)

    def _take(self, chunk: Chunk, output: NDArray[np.float32]) -> None:
        """What a step computed."""
        entry = chunk.entry
        if isinstance(entry, Reading):
            entry.take(self._engine, output)
            return
        first = entry[0]
        first.shares_page = False
        if chunk.output == "none":
            return
        if chunk.output == "last":
            self._keep(entry)
        for sequence in entry[1:]:
            sequence.session = first.session.fork()
        for sequence in entry:
            sequence.shares_page = len(entry) > 1 or self.prefixes is not None
            sequence.take(output if chunk.output == "all" else output[None])
        self.speculation.n_steps += len(entry)
        self.speculation.n_proposed += chunk.n_proposed

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
        if piece.finish_reason is not None:
            self._keep([sequence])
        return piece

    def _keep(self, entry: Entry) -> None:
        """What was read of a request, for those who read the same: its next turn, or itself once it is resumed."""
        if self.prefixes is not None and not isinstance(entry, Reading):
            session = entry[0].session
            self.prefixes.give(entry[0].tokens[: session.length], session)

    def _session(self, tokens: NDArray[np.int32]) -> _core.Session:
        """One that holds what is kept of these tokens."""
        kept = None if self.prefixes is None else self.prefixes.take(tokens)
        return kept or self._engine.session()

    @staticmethod
    def _restart(entry: Entry, session: _core.Session) -> None:
        for reader in [entry] if isinstance(entry, Reading) else entry:
            reader.restart(session)
