"""The papers' recipes, scaled to a model and a text, and how often a run is evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from pygpt.training.recipe import Recipe, check

Preset = Literal["gpt1", "gpt2", "gpt3"]

PART_TOKENS = 8192
"""Computed at once, unless a recipe says otherwise: keeps activations small beside a laptop's memory."""
_EVALUATION_SHARE = 0.03  # of the time of all steps: samples and checkpoints take time as well ...
_FORWARD = 1 / 3  # ... of which an evaluated token takes this share, for it has no backward pass
_MOST_WINDOWS, _MOST_EVALUATIONS, _WANTED_EVALUATIONS, _MOST_SAMPLES = 128, 50, 10, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paper:
    """What a paper says, at its own size."""

    scale: float  # of the learning rate, against GPT-3's of the same model
    floor: float  # of the learning rate, as a share of it
    decay: float  # the share of the steps at which the floor is reached
    warmup: float  # the share of the steps
    batch: float  # tokens in a batch ...
    tokens: float  # ... in a run of so many tokens
    epochs: float  # how often the text may be read
    beta2: float
    weight_decay: float
    dropout: float
    ramp_from: float = 1.0  # the first batch, as a share of the full one ...
    ramp: float = 0.0  # ... and the share of the tokens at which it is full


# GPT-3's table 2.1, and for smaller models the rule of Kaplan et al. 2020 (arXiv:2001.08361, equation D.1), which meets
# it at its first row: 0.003239 - 0.0001395 ln(n_params).
_TABLE = {1e6: 1.31e-3, 125e6: 6e-4, 350e6: 3e-4, 760e6: 2.5e-4, 1.3e9: 2e-4, 2.7e9: 1.6e-4, 6.7e9: 1.2e-4, 13e9: 1e-4}
_TABLE |= {175e9: 0.6e-4}


def gpt3_learning_rate(n_params: float) -> float:
    """GPT-3's for a model of a size: interpolated over its logarithm; below a million parameters that of a million."""
    return float(np.interp(math.log(n_params), np.log(list(_TABLE)), list(_TABLE.values())))


_PAPERS: dict[str, _Paper] = {
    "gpt1": _Paper(
        scale=2.5e-4 / gpt3_learning_rate(117e6),
        floor=0.0,
        decay=1.0,
        warmup=2000 * 64 * 512 / 1e11,
        batch=64 * 512,
        tokens=1e11,  # 100 epochs of the 985 million words of BooksCorpus (Zhu et al. 2015, arXiv:1506.06724)
        epochs=100,
        beta2=0.999,
        weight_decay=0.01,
        dropout=0.1,
    ),
    "gpt2": _Paper(
        scale=2.5e-4 / gpt3_learning_rate(117e6),
        floor=0.0,
        decay=1.0,
        warmup=2000 * 512 * 1024 / 3e11,
        batch=512 * 1024,
        tokens=3e11,
        epochs=100,
        beta2=0.999,
        weight_decay=0.01,
        dropout=0.1,
    ),
    "gpt3": _Paper(
        scale=1.0,
        floor=0.1,
        decay=260 / 300,
        warmup=375e6 / 3e11,
        batch=0.5e6,
        tokens=3e11,
        epochs=16,
        beta2=0.95,
        weight_decay=0.1,
        dropout=0.0,
        ramp_from=32e3 / 0.5e6,
        ramp=4e9 / 3e11,
    ),
}


def evaluations(
    n_sequences: float, steps: int, fixed: dict[str, Any], available: int = _MOST_WINDOWS
) -> dict[str, int]:
    """When and on how many of the `available` sequences a run of so many is evaluated: at most 50 times, and at least
    ten if it can be, in 3% of its time. What is in `fixed` stays, and the other follows from it."""
    most = _EVALUATION_SHARE / _FORWARD * n_sequences  # sequences in all evaluations
    interval, windows = fixed.get("eval_interval"), fixed.get("eval_windows")
    if windows is None:
        times = 1 + (_WANTED_EVALUATIONS if interval is None else math.ceil(steps / interval))
        windows = max(1, min(available, _MOST_WINDOWS, int(most / times)))
    if interval is None:
        times = max(1, min(_MOST_EVALUATIONS, int(most / windows) - 1))
        interval = math.ceil(steps / times)
    return {"eval_interval": interval, "eval_windows": windows}


def preset(name: Preset, *, n_params: int, n_ctx: int, n_tokens: int, **fixed: Any) -> Recipe:
    """A paper's recipe for a model of n_params parameters and a training text of n_tokens, read n_ctx at a time.

    `fixed` are fields that are given; the others follow from them. "gpt1" is Radford et al. 2018, "Improving language
    understanding by generative pre-training", section 4.1. "gpt2" is the same with the batch of Radford et al. 2019,
    "Language models are unsupervised multitask learners", which gives no learning rate and otherwise follows GPT-1; its
    number of tokens is that of its reproductions. "gpt3" is Brown et al. 2020, arXiv:2005.14165, section 2 and appendix
    B. Only GPT-3's says how gradients were clipped, and all three use its 1.0. These rules bring them to other sizes:

    - A run reads 20 tokens for each parameter (Hoffmann et al. 2022, arXiv:2203.15556), but the text at most 100 times
      for gpt1, as its paper, and for gpt2, and at most 16 times for gpt3: beyond that, reading it again gives almost
      nothing (Muennighoff et al. 2023, arXiv:2305.16264).
    - The batch is the paper's times sqrt(tokens / the paper's tokens), so it shrinks as the number of steps does.
    - The learning rate follows the number of parameters as in GPT-3's table 2.1, and below it as in Kaplan et al.
      2020, arXiv:2001.08361, appendix D.6; for gpt1 and gpt2 times a factor that gives 2.5e-4 at GPT-1's size.
    - Evaluation takes at most 5% of the time; see `evaluations`.
    - Warm-up is the paper's share of the tokens, but at least 2 / (1 - beta2) steps (Ma and Yarats 2019,
      arXiv:1910.04209; for GPT-1 these are its 2000) and at most a tenth of all. Decay and ramp: the paper's shares.

    ValueError or TypeError for a field that is unknown or not allowed.
    """
    if name not in _PAPERS:
        raise ValueError(f"the preset must be one of {', '.join(_PAPERS)}, not {name!r}")
    known = {field.name for field in fields(Recipe)}
    for key, value in fixed.items():
        if key not in known:
            raise TypeError(f"a recipe has no field {key!r}; it has {', '.join(sorted(known))}")
        check(key, value)
    paper = _PAPERS[name]
    tokens = min(20.0 * n_params, paper.epochs * n_tokens)

    def given(key: str, value: float) -> Any:
        return fixed.get(key, value)

    batch = given("batch", max(1, round(paper.batch * math.sqrt(tokens / paper.tokens) / n_ctx)))
    steps = given("steps", max(1, math.ceil(tokens / (batch * n_ctx))))
    beta2 = given("beta2", paper.beta2)
    warmup = given("warmup", min(max(math.ceil(paper.warmup * steps), round(2 / (1 - beta2))), steps // 10))
    learning_rate = given("learning_rate", paper.scale * gpt3_learning_rate(n_params))
    ramp_from = given("ramp_from", max(1, round(paper.ramp_from * batch)))
    ramp_steps = round(paper.ramp * steps * 2 * batch / (batch + ramp_from))  # the mean batch of the ramp is a half
    evaluated = evaluations(steps * batch, steps, fixed)
    interval = evaluated["eval_interval"]
    values: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "accumulate": min(batch, math.ceil(batch * n_ctx / PART_TOKENS)),
        "min_learning_rate": paper.floor * learning_rate,
        "warmup": warmup,
        "decay_steps": max(warmup + fixed.get("stable", 0), 1, round(paper.decay * steps)),
        "beta2": beta2,
        "weight_decay": paper.weight_decay,
        "dropout": paper.dropout,
        "ramp_steps": ramp_steps,
        "ramp_from": ramp_from,
        **evaluated,
        "sample_interval": interval * math.ceil(steps / interval / _MOST_SAMPLES),
    }
    return Recipe(**{**values, **fixed})
