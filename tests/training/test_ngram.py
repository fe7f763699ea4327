"""The n-gram model that the embedded network is compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

N_VOCAB = 400


@pytest.fixture(scope="module")
def ngram(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("ngram")


def chain(n: int, seed: int) -> NDArray[np.uint16]:
    """Tokens that often follow from the two before them, and are otherwise drawn by Zipf's law, the last one never."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, N_VOCAB)
    drawn = rng.choice(N_VOCAB - 1, n, p=weights / weights.sum())
    tokens = drawn.tolist()
    for i in range(2, n):
        if rng.random() < 0.5:
            tokens[i] = (tokens[i - 1] + 3 * tokens[i - 2]) % 20
    return np.array(tokens, np.uint16)


class Naive:
    """The formulas of Chen and Goodman (1998), eq. 26 and section 3, with dictionaries and one token at a time."""

    def __init__(self, tokens: list[int], order: int) -> None:
        self.counts: list[dict[tuple[int, ...], int]] = []
        self.discounts: list[list[float]] = []
        for k in range(1, order + 1):
            if k == order:
                counts = Counter(tuple(tokens[i : i + k]) for i in range(len(tokens) - k + 1))
            else:
                longer = {tuple(tokens[i : i + k + 1]) for i in range(len(tokens) - k)}
                counts = Counter(gram[1:] for gram in longer)
            n = Counter(counts.values())
            y = n[1] / (n[1] + 2 * n[2])
            self.counts.append(counts)
            self.discounts.append([0.0, *(c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3))])
        self.followers: list[dict[tuple[int, ...], list[int]]] = []
        for counts in self.counts:
            followers = defaultdict(list)
            for gram, count in counts.items():
                followers[gram[:-1]].append(count)
            self.followers.append(followers)

    def probability(self, context: tuple[int, ...], token: int) -> float:
        level = len(context)
        shorter = 1.0 / N_VOCAB if level == 0 else self.probability(context[1:], token)
        followers = self.followers[level].get(context)
        if followers is None:
            return shorter
        discount = self.discounts[level]
        count = self.counts[level].get((*context, token), 0)
        rest = sum(discount[min(c, 3)] for c in followers) * shorter
        return (count - discount[min(count, 3)] + rest) / sum(followers)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_it_is_the_papers_formula(ngram: ModuleType, order: int) -> None:
    train, held_out = chain(1500, seed=1), chain(300, seed=2)
    naive = Naive(train.tolist(), order)
    tokens = tuple(held_out.tolist())
    expected = [naive.probability(tokens[max(0, i - order + 1) : i], token) for i, token in enumerate(tokens)]
    found = ngram.KneserNey(train, N_VOCAB, order).probabilities(held_out)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probabilities_of_all_tokens_sum_to_one(ngram: ModuleType) -> None:
    model = ngram.KneserNey(chain(800, seed=3), N_VOCAB, 5)
    unseen = np.full(4, N_VOCAB - 1, np.uint16)
    contexts = [unseen, *(chain(4, seed) for seed in range(20)), chain(800, seed=3)[-4:]]
    for context in contexts:
        total = sum(model.probabilities(np.append(context, token))[-1] for token in range(N_VOCAB))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_a_repeated_document_counts_once(ngram: ModuleType) -> None:
    tokens = np.array([1, 2, 6, 3, 6, 1, 2, 6, 3, 3, 6, 3, 6], np.uint16)
    np.testing.assert_array_equal(ngram.once(tokens, 6), [1, 2, 6, 3, 6, 3, 3, 6])


def test_it_learns(ngram: ModuleType) -> None:
    held_out = chain(2000, seed=5)
    nats = {k: -np.log(ngram.KneserNey(chain(8000, 4), N_VOCAB, k).probabilities(held_out)).mean() for k in (1, 3, 5)}
    assert nats[3] < nats[1] - 0.4
    assert nats[5] < nats[3] + 0.05
