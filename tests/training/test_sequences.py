"""What a step reads: windows of a text, documents that are put together, and what is predicted of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pygpt.errors import TrainingError
from pygpt.training import Dataset, LanguageModel, Network, Parameters, Recipe, functions, prepare
from pygpt.training.architecture import architecture
from pygpt.training.mixture import Mixture, Phase
from pygpt.training.sequences import Document, Packed, TextDocuments, Windows, pack, reader, side_by_side

RECIPE = Recipe(steps=10, batch=4, learning_rate=0.01, eval_windows=100, seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 documents of a few characters each."""
    folder = tmp_path_factory.mktemp("data")
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "over", "a", "cat"]
    (folder / "text.txt").write_text("<|endoftext|>".join(words[i % 13] + " " + words[i % 5] for i in range(40)))
    return prepare(folder / "text.txt", folder / "data", tokenizer="char", validation=0.25, split="document")


# --- windows ----------------------------------------------------------------------------------------------------------


def windows(n_tokens: int, n_ctx: int, data: Dataset) -> Windows:
    """Of the numbers from 0 on."""
    tokens = np.arange(n_tokens, dtype=np.uint16)
    return Windows(Dataset(tokens, tokens, n_tokens, data.tokenizer, n_tokens, ""), n_ctx)


def test_a_step_depends_on_seed_and_step_alone(data: Dataset) -> None:
    mixture = Mixture([windows(100, 10, data)], [Phase(0, (1.0,))], data.tokenizer)
    ids, targets, positions = mixture.draw(7, RECIPE)
    assert (ids.shape, ids.dtype, targets.shape, targets.dtype) == ((4, 10), np.int32, (4, 10), np.int32)
    assert ids.flags.c_contiguous
    assert targets.flags.c_contiguous
    assert positions is None
    assert np.array_equal(targets, ids + 1)
    assert np.array_equal(ids - ids[:, :1], np.tile(np.arange(10), (4, 1)))
    assert not np.array_equal(mixture.draw(8, RECIPE)[0], ids)
    assert np.array_equal(mixture.draw(7, RECIPE)[0], ids)
    other = Recipe(steps=10, batch=4, learning_rate=0.01, seed=7)
    assert not np.array_equal(mixture.draw(7, other)[0], ids)


def test_all_windows_are_reached_alike(data: Dataset) -> None:
    found = windows(100, 10, data)
    numbers = np.random.Philox(3).random_raw(90_000)
    counts = np.bincount([found.sequence(n, 0, 0)[0].ids[0] for n in numbers.tolist()], minlength=90)
    assert len(counts) == 90  # the last target is the last token
    assert np.sum((counts - 1000) ** 2 / 1000) < 140  # chi-squared with 89 degrees of freedom: p = 0.0005


def test_windows_held_out_are_evenly_spread_and_apart(data: Dataset) -> None:
    found = windows(100, 10, data)
    assert [d[0].ids[0] for d in found.held_out(4)] == [0, 29, 59, 89]
    assert [d[0].ids[0] for d in found.held_out(1000)] == [0, 11, 22, 33, 44, 55, 66, 77, 89]
    assert all(np.array_equal(d[0].targets, d[0].ids + 1) for d in found.held_out(4))
    assert len(windows(100, 99, data).held_out(5)) == 1


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_each_document_is_packed_once(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 33, 200).tolist()
    sequences = pack(lengths, 32)
    assert sorted(i for sequence in sequences for i in sequence) == list(range(200))
    sums = [sum(lengths[i] for i in sequence) for sequence in sequences]
    assert max(sums) <= 32
    assert len(sequences) <= math.ceil(sum(lengths) / 32 * 11 / 9) + 1  # the bound of best-fit decreasing


def test_best_fit_is_the_fullest_that_has_room() -> None:
    assert pack([3, 6, 5, 4, 2], 10) == [[1, 3], [2, 0, 4]]
    assert pack([], 10) == []
    for lengths in ([11], [3, 0]):
        with pytest.raises(ValueError, match="documents must have from 1 to 10 tokens"):
            pack(lengths, 10)


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (None, [([9, 1], [1, 2]), ([2], [9]), ([9, 3], [3, 9]), ([9, 4], [4, 5])]),
        (8, [([8, 1], [1, 2]), ([2], [9]), ([8, 3], [3, 9]), ([8, 4], [4, 5])]),
    ],
)
def test_every_token_of_a_text_is_predicted_once(
    begin: int | None, expected: list[tuple[list[int], list[int]]]
) -> None:
    """After the token that begins, or ended, a document, or after those of the part before; the last has no end."""
    tokens = np.array([1, 2, 9, 3, 9, 4, 5], np.uint16)
    found = TextDocuments(tokens, 2, 9, begin)
    assert [(d.ids.tolist(), d.targets.tolist()) for d in map(found.__getitem__, range(len(found)))] == expected
    assert list(found.lengths) == [len(ids) for ids, _ in expected]
    whole = TextDocuments(tokens, 10, None, None)
    assert (len(whole), whole[0].ids.tolist(), whole[0].targets.tolist()) == (
        1,
        tokens[:-1].tolist(),
        tokens[1:].tolist(),
    )
    parts = TextDocuments(tokens, 4, None, None)
    assert [parts[k].ids.tolist() for k in range(2)] == [[1, 2, 9, 3], [9, 4]]
    with pytest.raises(TrainingError, match="the validation data has no document with a token to predict"):
        Packed(whole, TextDocuments(tokens[:1], 4, None, None), 10)


def test_documents_stand_side_by_side() -> None:
    one, two = (Document(np.full(n, n, np.int32), np.arange(n, dtype=np.int32)) for n in (1, 2))
    rows = side_by_side([[two, two], [one, two], [one]])
    assert rows.ids.tolist() == [[2, 2, 2, 2], [1, 2, 2, 0], [1, 0, 0, 0]]
    assert rows.targets.tolist() == [[0, 1, 0, 1], [0, 0, 1, -1], [0, -1, -1, -1]]
    assert rows.positions is not None
    assert rows.positions.tolist() == [[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 2]]
    assert rows.n_targets == 8
    assert [len(part.ids) for part in rows.parts(2)] == [2, 1]
    assert side_by_side([[two], [two]]).positions is None


def test_packed_documents_come_once_an_epoch(data: Dataset) -> None:
    packed = reader(data, 16, packed=True)
    assert isinstance(packed, Packed)
    n = packed.n_sequences
    epochs = [[packed.sequence(0, e * n + k, 1) for k in range(n)] for e in range(2)]
    tokens = sorted(data.train.tolist())
    for epoch in epochs:
        assert sorted(t for documents in epoch for d in documents for t in d.targets.tolist()) == tokens
    first, second = ([documents[0].ids.tobytes() for documents in epoch] for epoch in epochs)
    assert first != second
    assert packed.n_train == len(tokens)


def test_the_loss_of_packed_documents_is_that_of_each_alone(data: Dataset) -> None:
    config = architecture("llama", n_vocab=data.n_vocab, n_ctx=16, n_layer=2, n_head=2, n_embd=8)
    params = Parameters(config)
    params.initialise(3)
    network = Network(config, functions)
    packed = reader(data, 16, packed=True)
    objective = LanguageModel(network, params, Mixture([packed], [Phase(0, (1.0,))], data.tokenizer), RECIPE)
    found = objective.evaluate()
    text = TextDocuments(data.validation, 16, data.tokenizer.eos_id, None)
    documents = [text[k] for k in range(len(text))]
    nats = sum(network.loss(params, d.ids[None], d.targets[None])[0] for d in documents)
    assert found["validation_loss"] == pytest.approx(nats / len(data.validation), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / data.n_bytes, rel=1e-6)
    loss, n_tokens = objective.gradients(1)
    sequences = [packed.sequence(0, k, RECIPE.seed) for k in range(4)]
    alone = Parameters(config)
    count = sum(len(d.ids) for s in sequences for d in s)
    total = 0.0
    for d in (d for s in sequences for d in s):
        total += network.loss_and_gradients(params, alone, d.ids[None], d.targets[None], 1.0 / count)[0]
    assert loss == pytest.approx(total / count, rel=1e-6)
    assert np.abs(objective.grads - alone.flat).max() <= 1e-5 * np.abs(alone.flat).max()
    assert count <= n_tokens <= 4 * 16


def test_a_vocabulary_without_an_end_has_one_document(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("the quick brown fox jumps over the lazy dog. " * 4)
    one = prepare(tmp_path / "one.txt", tmp_path / "one", tokenizer="char", validation=0.2)
    assert one.tokenizer.eos_id is None
    packed = reader(one, 16, packed=True)
    assert packed.n_train == len(one.train) - 1
