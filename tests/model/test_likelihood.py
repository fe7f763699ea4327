"""`Model.loglikelihood` and rolling windows: what is read together is, to the bit, what each pair gets alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Likelihood, Model
from pygpt.errors import ContextOverflowError, TokenizerError
from pygpt.evaluation import rolling


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose even layers see the last 8 tokens only, with random weights."""
    base = Model.load("tiny", threads=1)
    config = base.config
    shapes = config.tensor_shapes()
    random = np.random.default_rng(3)
    tensors = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    windows = [8 if i % 2 == 0 else None for i in range(config.n_layer)]
    layers = tuple(dataclasses.replace(layer, window=w) for layer, w in zip(config.layers, windows, strict=True))
    return Model.from_tensors(dataclasses.replace(config, layers=layers), tensors, weights="float32", threads=1)


def alone(model: Model, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
    """By all logits of the two together."""
    tokens = np.array([*context, *continuation], np.int32)
    logits = model.logits(tokens[:-1])[len(context) - 1 :]
    logprobs = model._engine.log_softmax(logits)
    at = np.arange(len(continuation))
    is_greedy = bool((logits.argmax(axis=1) == tokens[len(context) :]).all())
    return Likelihood(math.fsum(logprobs[at, tokens[len(context) :]].tolist()), len(continuation), is_greedy)


def several(n_vocab: int, n: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Contexts that begin alike, by much or by little, each with some continuations, which do too; some of both occur
    twice; in no order."""
    random = np.random.default_rng(seed)

    def ids(count: int) -> list[int]:
        return random.integers(n_vocab, size=count).tolist()

    opening = ids(40)
    pairs: list[tuple[list[int], list[int]]] = []
    for _ in range(n):
        context = opening[: random.integers(0, 41)] + ids(int(random.integers(1, 20)))
        shared = ids(6)
        pairs += [(context, shared[: random.integers(0, 7)] + ids(int(random.integers(1, 5)))) for _ in range(3)]
        pairs += [(context, [1]), (context, [2]), (context[:3], ids(30)), pairs[0]]
    random.shuffle(pairs)  # type: ignore[arg-type]
    return pairs


@pytest.mark.parametrize("kind", ["model", "windowed"])
def test_sharing_changes_no_bit(kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind) if kind == "windowed" else Model.load("tiny", threads=1)
    pairs = several(model.config.n_vocab, 24, seed=7)
    assert model.loglikelihood(pairs) == [alone(model, *pair) for pair in pairs]


def test_greedy_text_is_greedy() -> None:
    model = Model.load("tiny", threads=1)
    context = model.tokenizer.encode("Once upon a time")
    written = list(model.generate(context, temperature=0, max_tokens=12).tokens)
    right, wrong = model.loglikelihood(
        [(context, written), (context, [*written[:-1], (written[-1] + 1) % model.config.n_vocab])]
    )
    assert (right.is_greedy, wrong.is_greedy, right.n_tokens) == (True, False, len(written))


def test_little_is_read_of_what_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four answers to each of ten questions behind one example: the example once, each question once."""
    model = Model.load("tiny", threads=1)
    engine, read = model._engine, [0]

    class Counting:
        """The engine, whose passes are counted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def score(self, batch: Any) -> Any:
            read[0] += sum(len(tokens) for _, tokens, _, _ in batch)
            return engine.score(batch)

    monkeypatch.setattr(model, "_engine", Counting())
    random = np.random.default_rng(1)
    example = random.integers(model.config.n_vocab, size=100).tolist()
    questions = [example + random.integers(model.config.n_vocab, size=20).tolist() for _ in range(10)]
    calls: list[tuple[int, int]] = []
    pairs = [(q, [i, 7, 8]) for q in questions for i in range(4)]
    model.loglikelihood(pairs, progress=lambda done, total: calls.append((done, total)))
    assert read[0] == 100 + 10 * 20 + 40 * 2
    assert calls[-1] == (40, 40)


def test_texts_are_cut_as_the_harness_cuts_them() -> None:
    """Together, with the spaces at a context's end in the continuation."""
    model = Model.load("tiny", threads=1)
    encode = model.tokenizer.encode
    whole = encode("Once upon a time")
    n = len(encode("Once upon"))
    by_ids = model.loglikelihood([(whole[:n], whole[n:])])
    assert model.loglikelihood([("Once upon", " a time")]) == by_ids
    assert model.loglikelihood([("Once upon ", "a time")]) == by_ids
    spaced = encode(" \nOnce", add_special=False)
    assert model.loglikelihood([(" \n", "Once")]) == model.loglikelihood([([model.tokenizer.bos_id], spaced)])
    assert model.loglikelihood([("", "Once")]) == model.loglikelihood([([model.tokenizer.bos_id], encode("Once"))])


def test_what_is_too_long_loses_its_beginning(model: Model) -> None:
    n_ctx = model.config.n_ctx
    ids = (np.arange(3 * n_ctx) % 200).tolist()
    (found,) = model.loglikelihood([(ids, [5, 6, 7])])
    assert found == alone(model, ids[-(n_ctx - 2) :], [5, 6, 7])
    assert model.loglikelihood([([1], ids[:n_ctx])])[0].n_tokens == n_ctx
    with pytest.raises(ContextOverflowError, match=f"continuation of pair 1 do not fit a context of {n_ctx}"):
        model.loglikelihood([([1], [2]), ([1], ids[: n_ctx + 1])])


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 128, 150])
def test_rolling_windows(model: Model, n: int) -> None:
    """Each token counts once, with the windows that `get_rolling_token_windows` of the harness makes."""
    n_ctx = model.config.n_ctx
    text = np.random.default_rng(n).integers(200, size=n).astype(np.int32)
    tokens = np.concatenate([[3], text]).astype(np.int32)
    logprobs: list[float] = []
    for begin in range(0, n, n_ctx):
        end = min(begin + n_ctx, n)
        rows = model._engine.log_softmax(model.logits(tokens[max(0, end - n_ctx) : end]))[begin - end :]
        logprobs += rows[np.arange(end - begin), text[begin:end]].tolist()
    assert rolling(model._engine, n_ctx, [text, text[:1]], 3)[0] == math.fsum(logprobs)


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ("in", TypeError, "pairs must be a list"),
        (["in"], TypeError, "pair 0 must be a tuple"),
        ([("in", "")], ValueError, "pair 0: a continuation must have at least one token after its context"),
        ([("in", [1])], TypeError, "not one of each"),
        ([([1], [10**6])], ValueError, "continuation of pair 0"),
        ([([], [1])], ValueError, "context of pair 0 must not be empty"),
    ],
)
def test_what_is_no_pair_is_named(model: Model, pairs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.loglikelihood(pairs)


def test_texts_need_a_tokenizer(gpt2_folder: Path) -> None:
    config, tensors, _ = pygpt.checkpoint.read(gpt2_folder)
    arrays = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    with pytest.raises(TokenizerError, match="no tokenizer"):
        Model.from_tensors(config, arrays, threads=1).loglikelihood([("in", "the")])


def test_scored_tokens_are_in_a_row(model: Model) -> None:
    line = np.arange(4, dtype=np.int32)
    for tokens, following in ((line.reshape(2, 2), line), (line, line.reshape(2, 2)), (np.array(1, np.int32), line)):
        with pytest.raises(ValueError, match="tokens must have 1 dimension, not"):
            model._engine.score([(model._engine.session(), tokens, 0, following)])
