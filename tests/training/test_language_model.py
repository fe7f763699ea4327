"""The objective of pre-training: what its loss, its gradients and its evaluation are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt.training as training
from pygpt import Model, checkpoint
from pygpt.errors import TrainingError
from pygpt.training import Dataset, LanguageModel, Network, Parameters, Recipe, functions, prepare
from pygpt.training.architecture import architecture

N_CTX = 8
RECIPE = Recipe(steps=10, batch=6, learning_rate=0.01, eval_windows=5, seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return prepare(folder / "text.txt", folder / "data", tokenizer="char", validation=0.2)


Make = Callable[..., LanguageModel]


@pytest.fixture
def make(data: Dataset) -> Make:
    """An objective, always from the same start."""

    def make(**changes: Any) -> LanguageModel:
        recipe = dataclasses.replace(RECIPE, **changes)
        config = architecture("gpt2", n_vocab=data.n_vocab, n_ctx=N_CTX, n_layer=1, n_head=2, n_embd=8)
        params = Parameters(config)
        params.initialise(recipe.seed)
        params.flat *= 5  # so that no two gradients are alike
        return LanguageModel(Network(config, functions, recipe.dropout), params, data, recipe, threads=1)

    return make


@pytest.mark.parametrize("accumulate", [2, 3, 4, 6])
def test_parts_of_a_batch_add_up_to_it(make: Make, accumulate: int) -> None:
    whole, parts = make(), make(accumulate=accumulate)
    loss, n_tokens = whole.gradients(4)
    assert parts.gradients(4) == (pytest.approx(loss, rel=1e-6), n_tokens)
    assert n_tokens == 6 * N_CTX
    # float32 sums of at most 6 * 8 rows, in another order
    np.testing.assert_allclose(parts.grads, whole.grads, atol=48 * 2.0**-24 * np.abs(whole.grads).max())


def test_gradients_are_those_of_the_loss(make: Make) -> None:
    """Along the gradient's own direction, by a difference of losses."""
    objective = make()
    objective.gradients(1)
    direction = objective.grads / np.linalg.norm(objective.grads)
    slope, start = float(np.linalg.norm(objective.grads)), objective.values.copy()
    h = 1e-3
    losses = []
    for sign in (1, -1):
        objective.values[...] = start + sign * h * direction
        losses.append(objective.gradients(1)[0])
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=1e-2)


def test_a_step_is_a_function_of_its_number(make: Make) -> None:
    first, again = make(dropout=0.2, accumulate=2), make(dropout=0.2, accumulate=2)
    losses = [first.gradients(step)[0] for step in (1, 2, 3)]
    assert len(set(losses)) == 3
    grads = first.grads.copy()
    assert again.gradients(3)[0] == losses[2]
    assert again.grads.tobytes() == grads.tobytes()
    assert make(dropout=0.2, accumulate=2, seed=4).gradients(3)[0] != losses[2]


def test_dropout_is_for_training_alone(make: Make) -> None:
    dropped, plain = make(dropout=0.5), make()
    assert dropped.gradients(1)[0] != plain.gradients(1)[0]
    assert dropped.evaluate() == plain.evaluate()


def test_the_evaluation_is_what_the_model_scores(make: Make, data: Dataset, tmp_path: Path) -> None:
    objective = make(eval_windows=1000)  # all there are: one after the other, up to the last token
    objective.write(tmp_path / "checkpoint")
    model = Model.load(tmp_path / "checkpoint", weights="float32", threads=1)
    tokens = data.validation
    n = (len(tokens) - 1) // N_CTX
    starts = np.arange(n) * (len(tokens) - N_CTX - 1) // (n - 1)
    nats = []
    for at in starts:
        logits = model.logits(tokens[at : at + N_CTX]).astype(np.float64)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats += [-logits[i, tokens[at + 1 + i]] for i in range(N_CTX)]
    found = objective.evaluate()
    assert found["validation_loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(np.mean(nats) / math.log(2), rel=1e-5)  # a byte a character


def test_a_checkpoint_holds_the_values(make: Make, tmp_path: Path) -> None:
    objective = make()
    for _ in range(2):  # the second in the place of the first
        objective.write(tmp_path / "checkpoint")
        config, tensors, tokenizer = checkpoint.read(tmp_path / "checkpoint")
        params = Parameters(config)
        params.fill({name: np.asarray(tensor) for name, tensor in tensors.items()})
        assert params.flat.tobytes() == objective.values.tobytes()
        assert tokenizer is not None
        assert tokenizer.decode(tokenizer.encode("the fox")) == "the fox"
        objective.values += 1.0


def test_a_sample_is_text_and_the_same_each_time(make: Make) -> None:
    objective = make()
    text = objective.sample()
    assert len(text) == N_CTX
    assert objective.sample() == text


def test_a_text_shorter_than_the_context_is_refused(data: Dataset) -> None:
    config = architecture("gpt2", n_vocab=data.n_vocab, n_ctx=5000, n_layer=1, n_head=2, n_embd=8)
    with pytest.raises(TrainingError, match="a context of 5000 needs at least 5001"):
        LanguageModel(Network(config, functions), Parameters(config), data, RECIPE)


def test_every_name_of_the_package_is_there() -> None:
    for name in training.__all__:
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        training.nothing  # noqa: B018
