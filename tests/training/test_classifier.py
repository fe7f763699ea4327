"""GPT-1's supervised loss: its value written out, its gradients against finite differences, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import reference
from pygpt.classification import TASKS, Task
from pygpt.config import ModelConfig
from pygpt.training import functions
from pygpt.training.batches import Encoded, batch
from pygpt.training.classifier import evaluate_task, head_shapes, task_loss_and_gradients
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters

N_LABELS = 3
SEQUENCES = {"classification": (1, 1, 1), "entailment": (1, 1, 1), "similarity": (2, 2, 2), "choice": (3, 2, 4)}


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def examples(config: ModelConfig, task: Task) -> Encoded:
    """Three examples of sequences of different lengths."""
    rng = np.random.default_rng(1)
    sequences = [
        [rng.integers(0, config.n_vocab, rng.integers(3, config.n_ctx + 1), np.int32) for _ in range(n)]
        for n in SEQUENCES[task]
    ]
    return Encoded(sequences, np.array([2, 0, 1], np.int32), 0)


@pytest.fixture
def params(config: ModelConfig, task: Task) -> Parameters:
    params = Parameters(config, np.float64, head_shapes(task, N_LABELS, config.n_embd))
    params.flat[:] = np.random.default_rng(2).standard_normal(len(params.flat)) * 0.4
    return params


def losses_written_out(params: Parameters, examples: Encoded, task: Task) -> tuple[float, float, int, list[int]]:
    """The task's and the language model's nats, the number of targets and the answers: a sequence at a time."""
    config, tensors = params.config, params.tensors
    model = {name: tensors[name] for name in config.tensor_shapes()}
    task_nats = language = 0.0
    n_targets, answers = 0, []
    for sequences, label in zip(examples.examples, examples.labels, strict=True):
        states = []
        for ids in sequences:
            states.append(reference.hidden(config, model, ids)[-1])
            p = reference.softmax(reference.forward(config, model, ids))
            language -= float(np.log(p[np.arange(len(ids) - 1), ids[1:]]).sum())
            n_targets += len(ids) - 1
        weight, bias = tensors["classifier.weight"], tensors["classifier.bias"]
        scores = (
            np.array([weight[0] @ h + bias[0] for h in states]) if task == "choice" else weight @ sum(states) + bias
        )
        task_nats -= float(np.log(reference.softmax(scores)[label]))
        answers.append(int(scores.argmax()))
    return task_nats, language, n_targets, answers


def test_the_losses_are_the_formulas(config: ModelConfig, params: Parameters, examples: Encoded, task: Task) -> None:
    expected = losses_written_out(params, examples, task)
    network, grads = (
        Network(config, functions),
        Parameters(config, np.float64, head_shapes(task, N_LABELS, config.n_embd)),
    )
    found = task_loss_and_gradients(
        network, params, grads, batch(examples, range(3)), task, task_scale=1.0, language_scale=1.0
    )
    assert (found.task, found.language) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert (found.n_targets, found.predicted.tolist()) == expected[2:]
    for n_tokens in (1, 10, 1000):
        mean, predicted = evaluate_task(network, params, examples, task, n_tokens)
        assert (mean, predicted.tolist()) == (pytest.approx(expected[0] / 3), expected[3])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_finite_differences(
    config: ModelConfig, params: Parameters, examples: Encoded, task: Task, dropout: float
) -> None:
    """Of the loss that GPT-1 minimises; as tests/training/test_network.py bounds them."""
    network, extra = Network(config, functions, dropout), head_shapes(task, N_LABELS, config.n_embd)
    together = batch(examples, range(3))
    n_targets = int((together.targets >= 0).sum())

    def loss(grads: Parameters) -> float:
        rng = np.random.default_rng(3)  # the same values are dropped each time
        found = task_loss_and_gradients(
            network,
            params,
            grads,
            together,
            task,
            task_scale=1 / 3,
            language_scale=0.5 / n_targets,
            dropout=dropout,
            rng=rng,
        )
        return found.task / 3 + 0.5 * found.language / n_targets

    grads, unused = Parameters(config, np.float64, extra), Parameters(config, np.float64, extra)
    loss(grads)
    largest = np.abs(grads.flat).max()
    generator = np.random.default_rng(4)
    for name, tensor in params.tensors.items():
        flat, gradient = tensor.reshape(-1), grads.tensors[name].reshape(-1)
        for i in generator.choice(len(flat), min(len(flat), 2), replace=False):
            value = flat[i]
            flat[i] = value + 1e-5
            above = loss(unused)
            flat[i] = value - 1e-5
            below = loss(unused)
            flat[i] = value
            assert gradient[i] == pytest.approx((above - below) / 2e-5, abs=1e-7 * max(largest, 1.0)), f"{name}[{i}]"


def test_gradients_of_parts_add_up(config: ModelConfig, params: Parameters, examples: Encoded, task: Task) -> None:
    network, extra = Network(config, functions), head_shapes(task, N_LABELS, config.n_embd)
    whole, parts = Parameters(config, np.float64, extra), Parameters(config, np.float64, extra)
    scales = {"task_scale": 0.3, "language_scale": 0.02}
    task_loss_and_gradients(network, params, whole, batch(examples, [0, 1, 2]), task, **scales)
    for chosen in ([2, 0], [1]):
        task_loss_and_gradients(network, params, parts, batch(examples, chosen), task, **scales)
    assert np.abs(whole.flat - parts.flat).max() <= 1e-12 * np.abs(whole.flat).max()
