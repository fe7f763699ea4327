"""What a run will do and need, told before it begins: parameters, tokens, recipe, memory and time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from pygpt import _core
from pygpt.config import ModelConfig
from pygpt.training.kernels import LOGIT_ROWS, LOGITS
from pygpt.training.optimizer import mean_type
from pygpt.training.primitives import Precision, Primitives
from pygpt.training.recipe import Recipe

_PROCESS_BYTES = 64 << 20  # Python and NumPy
_SHARE_OF_PRODUCTS = 0.6  # of a step's time
_PROBE_ROWS = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a run before its first step."""

    config: ModelConfig
    recipe: Recipe
    n_trained: int
    """Values that change: the model's parameters, or those of its adapters."""
    n_train: int
    """Tokens of the training text, or labelled examples."""
    n_validation: int
    """The same of the validation data."""
    unit: str
    """"tokens" or "examples"."""
    n_read: int
    """Tokens that all steps will read."""
    memory_bytes: int
    """About what the process will need."""
    seconds: float
    """About how long the steps that are left take, from the speed of a matrix product on this machine."""
    is_exact: bool
    """False while the numbers of tokens and steps are estimated from the sizes of the files."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass, since otherwise the memory that is free would not do."""
    n_done: int = 0
    """Tokens that a run which goes on has read before."""


def memory_plan(
    config: ModelConfig, recipe: Recipe, precision: Precision, n_part: int, n_trained: int, adapted: bool
) -> tuple[int, bool]:
    """About the memory of training, and whether it is that of gradient checkpointing, which is used where the rest
    would take more than is free: a step takes a quarter longer then, with adapters a third, and the results are the
    same bits."""
    whole = memory_bytes(config, recipe, precision, n_part, n_trained, adapted)
    free = _core.available_memory()
    if free is None or whole <= free:
        return whole, False
    return memory_bytes(config, recipe, precision, n_part, n_trained, adapted, gradient_checkpointing=True), True


def memory_bytes(
    config: ModelConfig,
    recipe: Recipe,
    precision: Precision,
    n_part: int,
    n_trained: int,
    adapted: bool,
    gradient_checkpointing: bool = False,
) -> int:
    """About the memory of training, `n_part` tokens at a time.

    Values, gradients and two moments of all that is trained; with adapters also the model; the logits that exist at
    once; and what the backward pass needs of each token.
    """
    trained = n_trained * (4 + 4 + mean_type(precision, recipe).itemsize + 4)
    model = 4 * config.n_params() if adapted else 0
    logits = 4 * max(LOGITS, LOGIT_ROWS * config.n_vocab)
    return _PROCESS_BYTES + trained + model + logits + n_part * _bytes_per_token(config, gradient_checkpointing)


def _bytes_per_token(config: ModelConfig, gradient_checkpointing: bool) -> int:
    """What `pygpt.training.network.Tape` keeps, in the main, and what one block needs beside it."""
    heads = (config.n_head + 2 * config.n_kv_head) * config.head_dim
    up = config.n_inner * (2 if config.gated_mlp else 1)
    block = 2 * config.n_embd + heads + config.n_head * config.head_dim + config.n_head + up
    if config.norm_placement == "sandwich":
        block += 2 * config.n_embd
    if config.qk_norm is not None:
        block += (config.n_head + config.n_kv_head) * config.head_dim
    beside = 2 * up + 2 * config.n_inner + 4 * config.n_embd
    kept = config.n_layer * config.n_embd + block if gradient_checkpointing else config.n_layer * block
    return 4 * (kept + beside)


def estimate_seconds(
    config: ModelConfig, n_read: float, primitives: Primitives, gradient_checkpointing: bool = False
) -> float:
    """Six operations for each parameter and token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), eight with
    gradient checkpointing, at the speed of a product of the model's width, which is tried."""
    width = min(config.n_embd, 1024)
    x, weight = np.zeros((_PROBE_ROWS, width), np.float32), np.zeros((4 * width, width), np.float32)
    took = math.inf
    for _ in range(3):
        began = time.perf_counter()
        primitives.linear(x, weight, None)
        took = min(took, time.perf_counter() - began)
    speed = 2.0 * _PROBE_ROWS * width * 4 * width / max(took, 1e-9)
    return (8.0 if gradient_checkpointing else 6.0) * config.n_params() * n_read / (speed * _SHARE_OF_PRODUCTS)


def estimate_tokens(n_bytes: int, n_vocab: int | None) -> int:
    """About how many tokens a text of so many bytes has in a vocabulary learnt from it; None: one a character."""
    if n_vocab is None:
        return n_bytes
    return round(n_bytes / min(4.5, 1.0 + 0.62 * math.log2(max(n_vocab, 256) / 256)))  # of English
