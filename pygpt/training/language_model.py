"""Training on plain text: predict each token from those before it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pygpt import checkpoint
from pygpt.model import Model
from pygpt.training.data import Dataset
from pygpt.training.mixture import Mixture, Phase
from pygpt.training.network import Network
from pygpt.training.parameters import FlatTensors, Parameters
from pygpt.training.recipe import Recipe
from pygpt.training.sequences import Windows

_SAMPLE_TOKENS = 120


class LanguageModel:
    """The objective of pre-training: the mean negative log-likelihood of a text's tokens (Radford et al. 2018,
    section 3.1, equation 1), on random windows of it, or on what a mixture of data sets gives. See
    `pygpt.training.loop.Objective`."""

    def __init__(
        self,
        network: Network,
        params: Parameters,
        data: Dataset | Mixture,
        recipe: Recipe,
        threads: int | None = None,
        family: str | None = None,
        gradients: FlatTensors | None = None,
    ) -> None:
        """Trains `params` in place. `threads` are those of samples; `family` is that of the checkpoints, as
        `pygpt.checkpoint.write` takes it; `gradients` are what it computes, None: those of all parameters.
        TrainingError: a text shorter than the context."""
        if isinstance(data, Dataset):
            data = Mixture([Windows(data, network.config.n_ctx)], [Phase(0, (1.0,))], data.tokenizer)
        self._network, self._params, self._data, self._recipe = network, params, data, recipe
        self._gradients = Parameters(network.config) if gradients is None else gradients
        self._threads, self._family = threads, family
        self.values, self.grads, self.n_decayed = params.flat, self._gradients.flat, params.n_decayed
        self._held_out = data.held_out(recipe.eval_windows)

    def gradients(self, step: int) -> tuple[float, int]:
        """As the protocol says; the loss is the mean over all that is to be predicted."""
        r = self._recipe
        batch = self._data.draw(step, r)
        n_targets = batch.n_targets
        self.grads[...] = 0.0
        total = 0.0
        for index, (ids, targets, positions) in enumerate(batch.parts(r.part)):
            # Not 0: to SeedSequence, (seed, step, 0) is (seed, step), which drew the batch.
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((r.seed, step, index + 1))))
            nats, _ = self._network.loss_and_gradients(
                self._params, self._gradients, ids, targets, 1.0 / n_targets, rng, positions
            )
            total += nats
        return total / n_targets, batch.ids.size

    def evaluate(self) -> dict[str, float]:
        """The loss over evenly spread sequences of the validation data, in nats per token, and what that is in bits per
        byte of text. Of several data sets, the means by their weights, and the loss of each, counted from 1."""
        figures = {"validation_loss": 0.0, "bits_per_byte": 0.0}
        for number, (weight, tokens_per_byte, rows) in enumerate(self._held_out, start=1):
            total = 0.0
            for ids, targets, positions in rows.parts(self._recipe.part):
                total += self._network.loss(self._params, ids, targets, positions)[0]
            loss = total / rows.n_targets
            figures["validation_loss"] += weight * loss
            if tokens_per_byte is None:  # a mean without it would tell nothing
                figures.pop("bits_per_byte", None)
            elif "bits_per_byte" in figures:
                figures["bits_per_byte"] += weight * (loss / math.log(2.0) * tokens_per_byte)
            if len(self._held_out) > 1:
                figures[f"validation_loss_{number}"] = loss
        return figures

    def sample(self) -> str:
        """The same draws each time, after the token that ends a text or else the validation text's first."""
        config, tokenizer = self._network.config, self._data.tokenizer
        model = Model.from_tensors(config, self._params.tensors, tokenizer, weights="float32", threads=self._threads)
        end = tokenizer.eos_id
        prompt = [int(self._held_out[0][2].ids[0, 0])] if end is None else [end]
        n_tokens = min(_SAMPLE_TOKENS, config.n_ctx - 1)
        text = model.generate(prompt, max_tokens=n_tokens, seed=self._recipe.seed).text
        return tokenizer.decode(prompt) + text if end is None else text

    def write(self, folder: Path) -> None:
        config, tokenizer = self._network.config, self._data.tokenizer
        checkpoint.write(folder, config, self._params.tensors, tokenizer, family=self._family)
