"""Where fine-tuning starts: a checkpoint's values, new tokens and a new linear layer, the recipe's defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pygpt import checkpoint
from pygpt.classification import SPECIAL_TOKENS, WEIGHT, SpecialIds
from pygpt.config import ModelConfig
from pygpt.errors import TokenizerError
from pygpt.families import settings_for
from pygpt.tokenizer import Tokenizer
from pygpt.training.lora import OF_TOKENS, fingerprint
from pygpt.training.network import check_trainable
from pygpt.training.parameters import Parameters
from pygpt.training.presets import PART_TOKENS, evaluations, gpt3_learning_rate
from pygpt.training.primitives import Array
from pygpt.training.recipe import Recipe

EPOCHS, BATCH, LANGUAGE_WEIGHT, DROPOUT = 3.0, 32, 0.5, 0.1  # GPT-1's
LEARNING_RATE, LEARNING_RATE_PARAMS = 6.25e-5, 117e6  # GPT-1's ...
LORA_LEARNING_RATE = 2e-4  # ... and of adapters of GPT-2 (Hu et al. 2021, table 11)
_ROWS = 4096  # of an embedding that are taken in double precision at once


class _Values(Mapping[str, Array]):
    """Tensors as float32, and others in the place of some. Each is read and widened when it is asked for, so that no
    second model stands in memory beside that of the trainer."""

    def __init__(self, tensors: Mapping[str, ArrayLike], others: Mapping[str, ArrayLike] | None = None) -> None:
        self._tensors, self._others = tensors, others or {}

    def __getitem__(self, name: str) -> Array:
        return np.asarray((self._others if name in self._others else self._tensors)[name], np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._tensors, *self._others)))

    def __len__(self) -> int:
        return len(self._tensors.keys() | self._others.keys())


class Base(NamedTuple):
    """A checkpoint to start from."""

    config: ModelConfig
    tensors: Mapping[str, Array]  # float32
    tokenizer: Tokenizer
    family: str | None = None  # as `pygpt.checkpoint.write` takes it


def load_base(source: str) -> Base:
    """A checkpoint, opened. CheckpointError, ConfigError, TokenizerError: it cannot be read, trained, or written
    again, or has no tokenizer."""
    path = checkpoint.locate(source)
    config, tensors, tokenizer = checkpoint.read(path)
    check_trainable(config)
    family = checkpoint.family_of(path)
    settings_for(config)
    if tokenizer is None:
        raise TokenizerError(f"{path}: has no tokenizer, which fine-tuning on text needs")
    if tokenizer.n_vocab > config.n_vocab:
        raise TokenizerError(f"{path}: the tokenizer has {tokenizer.n_vocab} tokens, but the model {config.n_vocab}")
    return Base(config, _Values(tensors), tokenizer, family)


def digest(base: Base) -> str:
    """A hash of all values, by which a run knows its checkpoint."""
    return fingerprint(base.tensors)


def with_special_tokens(base: Base, seed: int) -> tuple[Base, SpecialIds]:
    """The model with the tokens of task forms at the end of its vocabulary: new rows in the embedding and in the head,
    drawn from the normal distribution that has the others' mean and covariance (Hewitt 2021, "Initializing new word
    embeddings for pretrained language models"). Whatever the size of a model's rows, the new ones look like any other,
    and their logits are no more than usual. A model that has the tokens already stays as it is."""
    config, tensors, tokenizer, family = base
    known = tokenizer.special_tokens
    if all(name in known for name in SPECIAL_TOKENS):
        return base, SpecialIds(*(known[name] for name in SPECIAL_TOKENS))
    ids = SpecialIds(*range(config.n_vocab, config.n_vocab + len(SPECIAL_TOKENS)))
    extended = tokenizer.with_special(dict(zip(SPECIAL_TOKENS, ids, strict=True)))
    assert extended.n_vocab == config.n_vocab + len(ids)  # makes it now, with the errors it may have
    generator = np.random.Generator(np.random.Philox(seed))
    grown: dict[str, Array] = {}
    for name in OF_TOKENS:
        if name in tensors:
            rows = tensors[name]
            grown[name] = np.concatenate((rows, _more_rows(rows, len(ids), generator)))
    larger = dataclasses.replace(config, n_vocab=config.n_vocab + len(ids))
    return Base(larger, _Values(tensors, grown), extended, family), ids


def _more_rows(rows: Array, n: int, generator: np.random.Generator) -> Array:
    """n drawn from the normal distribution with the rows' mean and covariance: the mean, and the deviations from it
    added with weights of N(0, 1 / N). By column, a row after the other, so that the bits are any machine's."""
    mean = rows.mean(axis=0, dtype=np.float64)
    drawn = []
    for _ in range(n):
        weights = generator.standard_normal(len(rows)) / math.sqrt(len(rows))
        total = mean * (1.0 - weights.sum())
        for at in range(0, len(rows), _ROWS):
            part = slice(at, at + _ROWS)
            total += (weights[part].reshape(-1, *(1 for _ in mean.shape)) * rows[part]).sum(axis=0)
        drawn.append(total)
    return np.array(drawn, np.float32)


def start(base: Base, extra: Mapping[str, tuple[int, ...]], seed: int) -> Parameters:
    """The checkpoint's values, and for the linear layer N(0, 0.02) and 0."""
    params = Parameters(base.config, extra=extra)
    values: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in extra.items()}
    if WEIGHT in values:
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 1))))
        values[WEIGHT] = 0.02 * generator.standard_normal(extra[WEIGHT], np.float32)
    params.fill(_Values(base.tensors, values))
    return params


def learning_rate_of(n_params: int) -> float:
    """GPT-1's for a model of its size, and for others in inverse proportion to their parameters: 1.2e-3 for the
    embedded one of 6 million, on which rates were compared (docs/fine-tuning.md); but at most that of pre-training."""
    return min(LEARNING_RATE * LEARNING_RATE_PARAMS / n_params, gpt3_learning_rate(n_params))


def recipe(
    n_sequences: float,
    n_ctx: int | None,
    config: ModelConfig,
    *,
    epochs: float,
    lora: bool,
    n_validation: int = 0,
    **given: Any,
) -> Recipe:
    """GPT-1's recipe of fine-tuning (Radford et al. 2018, section 4.1) for a model and a training set of so many
    sequences, of n_ctx tokens each, or of their own lengths if that is None, and then with n_validation others; `given`
    are fields of `Recipe` that were chosen.

    The learning rate rises over 0.2% of the steps and then falls in a straight line to 0. Dropout is for models that
    learnt their positions, as GPT-1, GPT-2 and OPT, which were trained with it: those with rotary positions or slopes
    were not, and lose with it most of what they know. ValueError, TypeError.
    """
    if not (math.isfinite(epochs) and epochs > 0):
        raise ValueError(f"epochs must be a number above 0, not {epochs}")
    batch = given.get("batch", BATCH)
    per_epoch = max(1, math.ceil(n_sequences / max(batch, 1)))
    steps = given.get("steps", math.ceil(per_epoch * epochs))
    if n_ctx is None:  # all examples held out are evaluated, whose sequences are cut into parts of few tokens
        allowed = evaluations(steps * batch, steps, {"eval_windows": n_validation})["eval_interval"]
        evaluated = {"eval_interval": max(allowed, min(per_epoch, steps))}
    else:
        evaluated = evaluations(steps * batch, steps, given)
    values: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "learning_rate": LORA_LEARNING_RATE if lora else learning_rate_of(config.n_params()),
        "accumulate": max(1, min(batch, math.ceil(batch * (n_ctx or 1) / PART_TOKENS))),
        "warmup": math.ceil(0.002 * steps),
        "schedule": "linear",
        "weight_decay": 0.01,
        "dropout": DROPOUT if config.learned_positions else 0.0,
        **evaluated,
    }
    return Recipe(**{**values, **given})
