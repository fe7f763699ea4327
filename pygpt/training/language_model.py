"""Training on plain text: predict each token from those before it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pygpt import checkpoint
from pygpt.model import Model
from pygpt.training.data import Dataset, draw, windows
from pygpt.training.network import Network
from pygpt.training.parameters import FlatTensors, Parameters
from pygpt.training.recipe import Recipe

_SAMPLE_TOKENS = 120


class LanguageModel:
    """The objective of pre-training: the mean negative log-likelihood of a text's tokens (Radford et al. 2018,
    section 3.1, equation 1), on random windows of it. See `pygpt.training.loop.Objective`."""

    def __init__(
        self,
        network: Network,
        params: Parameters,
        dataset: Dataset,
        recipe: Recipe,
        threads: int | None = None,
        family: str | None = None,
        gradients: FlatTensors | None = None,
    ) -> None:
        """Trains `params` in place. `threads` are those of samples; `family` is that of the checkpoints, as
        `pygpt.checkpoint.write` takes it; `gradients` are what it computes, None: those of all parameters.
        TrainingError: a text shorter than the context."""
        dataset.check(network.config.n_ctx)
        self._network, self._params, self._dataset, self._recipe = network, params, dataset, recipe
        self._gradients = Parameters(network.config) if gradients is None else gradients
        self._threads, self._family = threads, family
        self.values, self.grads, self.n_decayed = params.flat, self._gradients.flat, params.n_decayed
        self._windows = windows(dataset.validation, network.config.n_ctx, recipe.eval_windows)

    def gradients(self, step: int) -> tuple[float, int]:
        r = self._recipe
        ids, targets = draw(self._dataset.train, r.batch_at(step), self._network.config.n_ctx, r.seed, step)
        self.grads[...] = 0.0
        total = 0.0
        for index, at in enumerate(range(0, len(ids), r.part)):
            part = slice(at, at + r.part)
            # Not 0: to SeedSequence, (seed, step, 0) is (seed, step), which drew the batch.
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((r.seed, step, index + 1))))
            nats, _ = self._network.loss_and_gradients(
                self._params, self._gradients, ids[part], targets[part], 1.0 / ids.size, rng
            )
            total += nats
        return total / ids.size, ids.size

    def evaluate(self) -> dict[str, float]:
        """The loss over evenly spread windows of the validation text, in nats per token, and what that is in bits per
        byte of text."""
        ids, targets = self._windows
        total = 0.0
        for at in range(0, len(ids), self._recipe.part):
            part = slice(at, at + self._recipe.part)
            total += self._network.loss(self._params, ids[part], targets[part])[0]
        loss = total / ids.size
        tokens_per_byte = len(self._dataset.validation) / self._dataset.n_bytes
        return {"validation_loss": loss, "bits_per_byte": loss / math.log(2.0) * tokens_per_byte}

    def sample(self) -> str:
        """The same draws each time, after the token that ends a text or else the validation text's first."""
        config, tokenizer = self._network.config, self._dataset.tokenizer
        model = Model.from_tensors(config, self._params.tensors, tokenizer, weights="float32", threads=self._threads)
        end = tokenizer.eos_id
        prompt = [int(self._dataset.validation[0])] if end is None else [end]
        n_tokens = min(_SAMPLE_TOKENS, config.n_ctx - 1)
        text = model.generate(prompt, max_tokens=n_tokens, seed=self._recipe.seed).text
        return tokenizer.decode(prompt) + text if end is None else text

    def write(self, folder: Path) -> None:
        config, tokenizer = self._network.config, self._dataset.tokenizer
        checkpoint.write(folder, config, self._params.tensors, tokenizer, family=self._family)
