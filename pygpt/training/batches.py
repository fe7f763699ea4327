"""Labelled examples as padded batches of tokens, in an order that depends on the seed and the step alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt.classification import Input, SpecialIds, Task, form
from pygpt.tokenizer import Tokenizer


class Encoded(NamedTuple):
    """Examples as token sequences."""

    examples: list[list[NDArray[np.int32]]]
    labels: NDArray[np.int32]  # (E,)
    n_truncated: int


def encode(
    examples: Sequence[tuple[Input, int]], task: Task, tokenizer: Tokenizer, ids: SpecialIds, n_ctx: int
) -> Encoded:
    """Each example in its task's form, in at most `n_ctx` tokens a sequence."""
    part = functools.partial(tokenizer.encode, add_special=False)
    forms = [form(task, item, part, ids, n_ctx) for item, _ in examples]
    sequences = [[np.array(s, np.int32) for s in f.sequences] for f in forms]
    labels = np.array([label for _, label in examples], np.int32)
    return Encoded(sequences, labels, sum(f.truncated for f in forms))


class Batch(NamedTuple):
    """Examples side by side, padded on the right: attention is causal, so what stands after the end changes nothing."""

    ids: NDArray[np.int32]  # (B, T)
    targets: NDArray[np.int32]  # (B, T): the token after each, -1 at and after the end
    extract: NDArray[np.int64]  # (B,): rows n = b T + t of the extract tokens
    example: NDArray[np.int64]  # (B,): which example of the batch, from 0 to E - 1, a sequence belongs to
    labels: NDArray[np.int32]  # (E,)


def batch(encoded: Encoded, chosen: Sequence[int]) -> Batch:
    """The examples of these numbers as one batch."""
    sequences = [s for i in chosen for s in encoded.examples[i]]
    n_token = max(map(len, sequences))
    ids = np.zeros((len(sequences), n_token), np.int32)  # padding is any token
    targets = np.full_like(ids, -1)
    for row, s in enumerate(sequences):
        ids[row, : len(s)] = s
        targets[row, : len(s) - 1] = s[1:]
    extract = np.array([row * n_token + len(s) - 1 for row, s in enumerate(sequences)], np.int64)
    counts = [len(encoded.examples[i]) for i in chosen]
    return Batch(ids, targets, extract, np.repeat(np.arange(len(chosen)), counts), encoded.labels[np.asarray(chosen)])


def micro_batches(encoded: Encoded, chosen: Sequence[int], n_tokens: int) -> list[tuple[list[int], Batch]]:
    """The same examples in batches of similar lengths, with their numbers: at most `n_tokens` ids each, padding
    included, or one example."""
    order = sorted(chosen, key=lambda i: max(map(len, encoded.examples[i])))  # stable: no chance in it
    groups: list[list[int]] = []
    n_rows = 0
    for i in order:
        longest, rows = max(map(len, encoded.examples[i])), len(encoded.examples[i])
        if not groups or (n_rows + rows) * longest > n_tokens:
            groups.append([])
            n_rows = 0
        groups[-1].append(i)
        n_rows += rows
    return [(group, batch(encoded, group)) for group in groups]


def drawn(n_examples: int, n_batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """The examples of one step, from 1: each epoch goes through all of them once, in an order that is a function of
    (seed, epoch) alone. The last batch of an epoch may be smaller."""
    per_epoch = steps_per_epoch(n_examples, n_batch)
    epoch, at = divmod(step - 1, per_epoch)
    return shuffled(n_examples, seed, epoch)[at * n_batch : (at + 1) * n_batch]


def steps_per_epoch(n_examples: int, n_batch: int) -> int:
    """Optimiser steps that go through all examples once."""
    return -(-n_examples // n_batch)


def shuffled(n: int, *key: int) -> NDArray[np.int64]:
    """The numbers below n in an order that follows from the key. (The raw numbers of Philox are the same in all
    versions of NumPy; `Generator.permutation` need not be.)"""
    return np.argsort(np.random.Philox(np.random.SeedSequence(key)).random_raw(n), kind="stable")
