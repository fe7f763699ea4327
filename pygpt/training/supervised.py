"""Training on labelled examples: the objective of GPT-1's supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pygpt import checkpoint
from pygpt.classification import BIAS, WEIGHT, Classifier, SpecialIds, Task, task_metrics
from pygpt.tokenizer import Tokenizer
from pygpt.training.batches import Encoded, drawn, micro_batches
from pygpt.training.classifier import evaluate_task, task_loss_and_gradients
from pygpt.training.network import Network
from pygpt.training.parameters import FlatTensors, Parameters
from pygpt.training.recipe import Recipe

PART_TOKENS = 1024  # computed at once: enough for the products to be fast, few enough to need little padding


class Supervised:
    """Minimises task + language_weight * language (Radford et al. 2018, section 3.2, equation 5). Each is a mean: over
    the examples of a batch, and over all their tokens after the first. See `pygpt.training.loop.Objective`."""

    def __init__(
        self,
        network: Network,
        params: Parameters,
        train: Encoded,
        validation: Encoded,
        recipe: Recipe,
        tokenizer: Tokenizer,
        *,
        task: Task,
        labels: tuple[str, ...],
        ids: SpecialIds,
        language_weight: float,
        family: str | None = None,
        gradients: FlatTensors | None = None,
    ) -> None:
        """Trains `params`, which hold the linear layer as well, in place. The recipe's dropout is also that of the
        states which this layer reads; `family` is that of the checkpoints, as `pygpt.checkpoint.write` takes it;
        `gradients` are what it computes, None: those of all parameters."""
        self._network, self._params, self._recipe, self._tokenizer = network, params, recipe, tokenizer
        self._family = family
        self._train, self._validation = train, validation
        self._task, self._labels, self._ids, self._language_weight = task, labels, ids, language_weight
        if gradients is None:
            extra = {name: params.tensors[name].shape for name in (WEIGHT, BIAS)}
            gradients = Parameters(network.config, extra=extra)
        self._gradients = gradients
        self.values, self.grads, self.n_decayed = params.flat, self._gradients.flat, params.n_decayed

    def gradients(self, step: int) -> tuple[float, int]:
        """As the protocol says; the loss returned is the task's part. The last batch of an epoch may be smaller."""
        r = self._recipe
        chosen = drawn(len(self._train.labels), r.batch, r.seed, step).tolist()
        parts = [batch for _, batch in micro_batches(self._train, chosen, PART_TOKENS)]
        n_targets = sum(int(np.count_nonzero(batch.targets >= 0)) for batch in parts)
        self.grads[...] = 0.0
        total = 0.0
        for index, batch in enumerate(parts):
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((r.seed, step, index + 1))))
            total += task_loss_and_gradients(
                self._network,
                self._params,
                self._gradients,
                batch,
                self._task,
                task_scale=1.0 / len(chosen),
                language_scale=self._language_weight / n_targets,
                dropout=r.dropout,
                rng=rng,
            ).task
        return total / len(chosen), sum(len(s) for i in chosen for s in self._train.examples[i])

    def evaluate(self) -> dict[str, Any]:
        """The task's loss over the validation examples, in nats an example; accuracy, macro F1, confusion matrix."""
        loss, predicted = evaluate_task(self._network, self._params, self._validation, self._task, PART_TOKENS)
        truth = self._validation.labels
        n_classes = len(self._labels) or int(max(truth.max(), predicted.max())) + 1
        metrics = task_metrics(truth, predicted, n_classes)
        return {
            "validation_loss": loss,
            "accuracy": metrics.accuracy,
            "macro_f1": metrics.macro_f1,
            "confusion": metrics.confusion.tolist(),
        }

    def sample(self) -> None:
        """Nothing."""

    def classifier(self) -> Classifier:
        """The linear layer as it is."""
        weight, bias = (np.array(self._params.tensors[name], np.float32) for name in (WEIGHT, BIAS))
        return Classifier(task=self._task, labels=self._labels, ids=self._ids, weight=weight, bias=bias)

    def write(self, folder: Path) -> None:
        """A checkpoint with its classifier."""
        config = self._network.config
        tensors = {name: self._params.tensors[name] for name in config.tensor_shapes()}
        checkpoint.write(folder, config, tensors, self._tokenizer, self.classifier().extra(), self._family)
