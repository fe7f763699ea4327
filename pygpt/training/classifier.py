"""GPT-1's supervised objective: a linear layer on the extract token's hidden state, beside the language model's loss.

Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3.2, equations 4 and 5:
L = L_task + lambda L_language, with lambda = 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt.classification import BIAS, WEIGHT, Task
from pygpt.training.batches import Batch, Encoded, micro_batches
from pygpt.training.network import Network, Rng
from pygpt.training.parameters import FlatTensors, Parameters
from pygpt.training.primitives import Array


class TaskLoss(NamedTuple):
    """Sums over a batch, in nats; divide by E examples and by the targets."""

    task: float
    language: float
    n_targets: int
    predicted: NDArray[np.int64]  # (E,): the class, or the answer's number


def head_shapes(task: Task, n_labels: int, n_embd: int) -> dict[str, tuple[int, ...]]:
    """The tensors of the linear layer: a row a label, or one row that scores each answer of a choice."""
    n_rows = 1 if task == "choice" else n_labels
    return {WEIGHT: (n_rows, n_embd), BIAS: (n_rows,)}


def task_loss_and_gradients(
    network: Network,
    params: Parameters,
    grads: FlatTensors,
    batch: Batch,
    task: Task,
    *,
    task_scale: float,
    language_scale: float,
    dropout: float = 0.0,
    rng: Rng = None,
) -> TaskLoss:
    """The losses, and adds to grads the gradient of task_scale * task + language_scale * language; a scale of 0 leaves
    the language model's loss out, which is then 0.

    `dropout` is that of the states that the linear layer reads; like the network's, it needs a generator.
    """
    hidden, tape = network.hidden(params, batch.ids, rng)
    if language_scale:
        language, dhidden = network.head_backward(params, grads, hidden, batch.targets, language_scale)
    else:  # the logits of a large vocabulary are a fifth of the work
        language, dhidden = 0.0, np.zeros_like(hidden)
    x = _features(hidden, batch, task)
    del hidden
    keep = None
    if rng is not None and dropout > 0.0:
        keep = (rng.random(x.shape, np.float32) >= dropout) * x.dtype.type(1.0 / (1.0 - dropout))
        x = x * keep
    scores, cells = _scores(params, x, batch, task)
    nats, probabilities = _softmax_loss(scores, batch.labels)
    probabilities[np.arange(len(batch.labels)), batch.labels] -= 1.0
    probabilities *= task_scale  # the gradient of the scores
    dlogits = probabilities[cells][:, None] if task == "choice" else probabilities
    grads.tensors[WEIGHT] += dlogits.T @ x
    grads.tensors[BIAS] += dlogits.sum(axis=0)
    dx = dlogits @ params.tensors[WEIGHT]
    if keep is not None:
        dx *= keep
    dhidden[batch.extract] += dx if task == "choice" else dx[batch.example]
    network.backward(params, grads, tape, dhidden)
    return TaskLoss(nats, language, int(np.count_nonzero(batch.targets >= 0)), scores.argmax(axis=1))


def evaluate_task(
    network: Network, params: Parameters, encoded: Encoded, task: Task, n_tokens: int
) -> tuple[float, NDArray[np.int64]]:
    """The mean nats of all examples, and what is predicted for each (E,). `n_tokens` at a time, without dropout."""
    nats, predicted = 0.0, np.zeros(len(encoded.labels), np.int64)
    for chosen, batch in micro_batches(encoded, range(len(encoded.labels)), n_tokens):
        hidden, _ = network.hidden(params, batch.ids, record=False)
        scores, _ = _scores(params, _features(hidden, batch, task), batch, task)
        nats += _softmax_loss(scores, batch.labels)[0]
        predicted[chosen] = scores.argmax(axis=1)
    return nats / len(predicted), predicted


def _features(hidden: Array, batch: Batch, task: Task) -> Array:
    """What the linear layer reads: the extract tokens' states (S, C) for a choice, else their sum by example (E, C)."""
    states: Array = hidden[batch.extract]
    if task == "choice":
        return states
    x = np.zeros((len(batch.labels), states.shape[1]), states.dtype)
    np.add.at(x, batch.example, states)
    return x


def _scores(
    params: Parameters, x: Array, batch: Batch, task: Task
) -> tuple[Array, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The scores (E, labels or most answers), -inf where an example has fewer answers; for a choice, also the row and
    column of each sequence's score."""
    logits: Array = x @ params.tensors[WEIGHT].T
    logits += params.tensors[BIAS]
    rows = batch.example
    columns = np.arange(len(rows)) - np.searchsorted(rows, rows)  # the first of each example is its answer 0
    if task != "choice":
        return logits, (rows, columns)
    scores = np.full((len(batch.labels), columns.max() + 1), -np.inf, logits.dtype)
    scores[rows, columns] = logits[:, 0]
    return scores, (rows, columns)


def _softmax_loss(scores: Array, labels: NDArray[np.int32]) -> tuple[float, Array]:
    """The nats of the labels, summed, and the probabilities (E, n)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    probabilities: Array = np.exp(shifted)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= total
    picked = shifted[np.arange(len(labels)), labels] - np.log(total[:, 0])
    return -float(picked.sum(dtype=np.float64)), probabilities
