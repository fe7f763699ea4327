"""Thousands of requests in random interleavings: each gets, bit for bit, what the model gives it alone.

The scheduling is stepped by hand: no thread, no clock, and every round can be repeated from its number.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import CancelToken, Completion, Model, ModelConfig, SamplingParams, _core
from pygpt.config import LayerConfig, Rope
from pygpt.errors import Cancelled
from pygpt.generation import Batch, CacheAccount, Piece, PrefixTree, Reading, Request, Scheduling, collect

N_CTX = 420


def every_second(tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
    """A logits processor."""
    logits[len(tokens) % 2 :: 2] = -np.inf


MORE: list[dict[str, Any]] = [
    {},
    {},
    {"logits_processor": every_second},
    {"frequency_penalty": 1.0, "repetition_penalty": 1.2},
    {"regex": "[a-f ]{5,90}[xyz]?"},
    {"choices": ["in the", "a", "on and on and on"]},
]


@pytest.fixture(scope="module")
def long_model(model: Model) -> Model:
    """A random model whose context has several pages, with a layer that sees a window."""
    rope = Rope(theta=100.0, dim=4)
    layers = (LayerConfig(attn_scale=0.5, rope=rope), LayerConfig(attn_scale=0.5, rope=rope, window=70))
    config = ModelConfig(
        n_vocab=model.config.n_vocab, n_ctx=N_CTX, n_embd=8, n_head=2, n_kv_head=1, head_dim=4, n_inner=8,
        norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True, qkv_bias=False, attn_out_bias=False,
        mlp_bias=False, learned_positions=False, layers=layers, tied_head=False, eos_ids=model.config.eos_ids,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in config.tensor_shapes().items()}
    return Model.from_tensors(config, tensors, model.tokenizer, threads=1)


class Asked:
    """A job in a round: what came of it."""

    def __init__(self, case: Case, cancel: CancelToken, client: str) -> None:
        self.case, self.cancel = case, cancel
        self.job = case.job(cancel, client)
        self.pieces: list[Piece] = []
        self.error: Exception | None = None
        self.found: Any = None
        self.has_ended = False


class Case:
    """A request of which it is known what it gets alone."""

    def __init__(self, model: Model, rng: np.random.Generator) -> None:
        self.tokens = rng.integers(0, model.config.n_vocab, int(rng.choice([1, 5, 40, 63, 64, 130, 250])), np.int32)
        n_shared = int(rng.choice([0, 40, 128, 200]))  # that others begin with, too
        self.tokens[:n_shared] = np.resize([7, 1, 8, 2, 8], len(self.tokens[:n_shared]))
        self.reads = [None, None, None, "logprobs", "embedding"][int(rng.integers(5))]
        if self.reads == "logprobs" and len(self.tokens) == 1:
            self.reads = None
        self.params = SamplingParams(
            max_tokens=int(rng.choice([1, 3, 20, 90, 130])),
            temperature=float(rng.choice([0.0, 1.0])),
            n=int(rng.choice([1, 1, 1, 2, 5])),
            seed=int(rng.integers(100)),
            logprobs=[None, 0, 2][int(rng.integers(3))],
            stop=[(), ("e",), ("in the",)][int(rng.integers(3))],
            **MORE[int(rng.integers(len(MORE)))],
        )
        self.constraint = model._grammars.constraint(self.params)
        if self.reads is None:
            done = model.generate(self.tokens, params=self.params)
            self.expected: Any = done if isinstance(done, list) else [done]
        elif self.reads == "embedding":
            self.expected = model.embed(self.tokens).tolist()
        else:
            self.expected = model.score(self.tokens).tolist()

    def job(self, cancel: CancelToken, client: str) -> Request | Reading:
        if self.reads is not None:
            return Reading(self.tokens, self.reads, 0, cancel, client)  # type: ignore[arg-type]
        assert self.params.seed is not None
        request = Request(self.tokens, self.params, self.params.seed, 0, cancel, client=client)
        request.constraint = self.constraint
        return request

    def check(self, asked: Asked) -> None:
        """What came is what was expected, or a beginning of it where it was cancelled."""
        assert asked.has_ended
        if self.reads == "embedding":
            assert asked.found is None or asked.found.tolist() == self.expected
        elif self.reads == "logprobs":
            assert asked.found is None or [entry.logprob for entry in asked.found] == self.expected
        if self.reads is not None:
            assert asked.found is not None or (isinstance(asked.error, Cancelled) and asked.cancel.cancelled)
            return
        assert asked.error is None
        completions = collect(asked.pieces, self.params, [self.params.seed or 0])
        for done, expected in zip(completions, self.expected, strict=True):
            if done.finish_reason == "cancelled":
                assert asked.cancel.cancelled
                expected = beginning(expected, done)
            assert done == expected


def beginning(whole: Completion, part: Completion) -> Completion:
    """As much of a completion as was there when it was cancelled; its text may end within a character."""
    n = len(part.tokens)
    assert whole.text.startswith(part.text)
    logprobs = None if whole.logprobs is None else whole.logprobs[:n]
    return replace(whole, tokens=whole.tokens[:n], text=part.text, logprobs=logprobs, finish_reason="cancelled")


class Round:
    """A scheduling with random settings, and what arrives at which of its steps."""

    def __init__(self, model: Model, cases: list[Case], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        engine = model._engine
        unit = engine.cache_bytes(64)
        self.limit = engine.cache_bytes(384) + int(rng.choice([0, 0, 0, 1, 1000])) * unit
        self.account = CacheAccount(engine, N_CTX, self.limit)
        self.max_step_tokens = int(rng.choice([1, 7, 30, 64, 200]))
        n_pages = [0, 3, 1000][int(rng.integers(3))]
        self.prefixes, self.prefix_limit = PrefixTree(n_pages * unit), n_pages * unit
        prefixes = self.prefixes if n_pages else None
        self.batch = Batch(*model._parts, max_step_tokens=self.max_step_tokens, prefixes=prefixes)
        self.scheduling = Scheduling(self.batch, self.account, max_running=int(rng.choice([1, 3, 8, 30])))
        self.asked: dict[object, Asked] = {}
        self.arrivals: dict[int, list[Asked]] = defaultdict(list)
        self.cancels: dict[int, list[CancelToken]] = defaultdict(list)
        n_clients, last = int(rng.integers(1, 4)), int(rng.choice([1, 30, 150]))
        for _ in range(int(rng.integers(2, 24))):
            case = cases[int(rng.integers(len(cases)))]
            asked = Asked(case, CancelToken(), f"client {rng.integers(n_clients)}")
            step = int(rng.integers(last))
            self.asked[asked.job] = asked
            self.arrivals[step].append(asked)
            if rng.random() < 0.15:
                self.cancels[step + int(rng.integers(60))].append(asked.cancel)

    def run(self) -> None:
        step = 0
        while step <= max(self.arrivals) or self.scheduling.is_busy:
            for asked in self.arrivals.pop(step, []) if step in self.arrivals else []:
                self.scheduling.check(asked.job)
                self.scheduling.add(asked.job)
            self.arrivals.setdefault(step, [])
            for cancel in self.cancels.pop(step, []):
                cancel.cancel()
            self.step()
            step += 1
            assert step < 20_000
        for asked in self.asked.values():
            asked.case.check(asked)

    def step(self) -> None:
        gone = [a.job for a in self.asked.values() if a.cancel.cancelled and not a.has_ended]
        for outcome in self.scheduling.step():
            asked = self.asked[outcome.job]
            assert not asked.has_ended
            asked.pieces += outcome.pieces
            asked.error, asked.found = outcome.error, outcome.found
            n_ended = sum(piece.finish_reason is not None for piece in asked.pieces)
            n_asked = asked.job.n_places
            asked.has_ended = asked.error is not None or asked.found is not None or n_ended == n_asked
        waiting = [job for jobs in self.scheduling._waiting.values() for job in jobs]
        for job in gone:  # within one step
            assert not self.scheduling.has(job)
            assert job not in waiting
        assert self.scheduling.n_running <= max(self.scheduling._max_running, 5)
        assert self.prefixes.n_bytes <= self.prefix_limit
        if len(self.batch.running) > 1:
            assert self.account.held(self.batch.running) <= self.limit


@pytest.fixture(scope="module")
def cases(long_model: Model) -> list[Case]:
    rng = np.random.default_rng(1)
    return [Case(long_model, rng) for _ in range(120)]


@pytest.mark.parametrize(("n_rounds", "fails"), [(130, False), (25, True)], ids=["", "memory-fails"])
def test_random_interleavings(
    long_model: Model, cases: list[Case], monkeypatch: pytest.MonkeyPatch, n_rounds: int, fails: bool
) -> None:
    forward = _core.Engine.forward
    rows: list[list[int]] = []
    rng = np.random.default_rng(2)

    def watched(engine: Any, inputs: Any, **options: Any) -> Any:
        rows.append([len(tokens) for _, tokens in inputs])
        if fails and len(inputs) > 1 and rng.random() < 0.05:
            raise MemoryError
        return forward(engine, inputs, **options)

    monkeypatch.setattr(_core.Engine, "forward", watched)
    n_asked = n_pauses = n_cached = 0
    for seed in range(n_rounds):
        rows.clear()
        round_ = Round(long_model, cases, seed + 1000 * fails)
        round_.run()
        for step in rows:
            n_prompt = sum(n for n in step if n > 1)
            assert n_prompt <= max(round_.max_step_tokens - step.count(1), round_.max_step_tokens // 4, 1)
        n_asked += len(round_.asked)
        n_pauses += round_.scheduling.n_pauses
        n_cached += round_.scheduling.n_cached
    assert n_asked > 10 * n_rounds
    assert n_pauses > n_rounds // 2
    assert n_cached > 20 * n_rounds
