"""How a model is trained: the numbers of a run, their course over its steps, and the papers' own choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

Schedule = Literal["cosine", "linear"]
Preset = Literal["gpt1", "gpt2", "gpt3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The numbers of a training run. Steps count from 1. ValueError or TypeError names the field and what is allowed.

    Everything random in a run is a function of `seed` and the step, so a run that goes on from a saved state has no
    other state to restore than its arrays.
    """

    steps: int
    """Updates of the parameters."""
    batch: int
    """Sequences in one update."""
    learning_rate: float
    """The largest one, at the end of the warm-up."""
    accumulate: int = 1
    """A batch is cut into this many parts, whose gradients are added up: memory is that of a part."""
    min_learning_rate: float = 0.0
    """Where the decay ends."""
    warmup: int = 0
    """Steps in which the learning rate rises in a straight line."""
    stable: int = 0
    """Steps at the largest learning rate before the decay: "warmup-stable-decay" (Hu et al. 2024, arXiv:2404.06395)."""
    decay_steps: int | None = None
    """The step at which the decay ends; None: the last one."""
    schedule: Schedule = "cosine"
    """The form of the decay: half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983), or a straight line."""
    beta1: float = 0.9
    """How much of the mean gradient is kept at each step (Kingma and Ba 2015, arXiv:1412.6980)."""
    beta2: float = 0.999
    """The same for the mean squared gradient."""
    eps: float = 1e-8
    """Added to the root of the mean squared gradient, which divides."""
    weight_decay: float = 0.0
    """The share of a matrix that is taken off, times the learning rate (Loshchilov and Hutter 2019, arXiv:1711.05101);
    norms and biases do not decay."""
    clip: float = 1.0
    """The largest norm of all gradients together; longer ones are scaled to it (Pascanu et al. 2013, arXiv:1211.5063).
    0: no limit."""
    dropout: float = 0.0
    """The share of values dropped (Srivastava et al. 2014)."""
    ramp_steps: int = 0
    """Steps in which the batch grows in a straight line from `ramp_from` to `batch`; 0: it is full from the start."""
    ramp_from: int = 1
    """Sequences in the first batch of the ramp."""
    seed: int = 0
    """Of the initial values, the data's order and dropout."""
    eval_interval: int = 100
    """Steps between evaluations; there is one before the first step and one after the last, too."""
    eval_windows: int = 128
    """Sequences of the validation text in one evaluation."""
    sample_interval: int = 0
    """Steps between texts written by the model; 0: none."""
    checkpoint_interval: int = 0
    """Steps between checkpoints of the model as it is; 0: one at each evaluation."""
    patience: int = 0
    """Evaluations without a better loss after which the run ends (early stopping); 0: it runs to the end."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))
        for name in ("warmup", "decay_steps", "ramp_steps"):
            if (value := getattr(self, name)) is not None and value > self.steps:
                raise ValueError(f"{name} must be at most steps ({self.steps}), not {value}")
        if self.stable > self.steps - self.warmup:
            raise ValueError(f"stable must be at most steps - warmup ({self.steps - self.warmup}), not {self.stable}")
        if self.decay_steps is not None and self.decay_steps < self.warmup + self.stable:
            raise ValueError(
                f"decay_steps must be at least warmup + stable ({self.warmup + self.stable}), not {self.decay_steps}"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate must be at most learning_rate ({self.learning_rate}), not {self.min_learning_rate}"
            )
        for name in ("accumulate", "ramp_from"):
            if getattr(self, name) > self.batch:
                raise ValueError(f"{name} must be at most batch ({self.batch}), not {getattr(self, name)}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step: up to `learning_rate` at the end of the warm-up, down to the floor at the end of
        the decay, where it stays."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        begin = self.warmup + self.stable
        if step <= begin:
            return self.learning_rate
        end = self.steps if self.decay_steps is None else self.decay_steps
        done = 1.0 if step >= end else (step - begin) / (end - begin)
        left = 0.5 * (1.0 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0 - done
        return self.min_learning_rate + left * (self.learning_rate - self.min_learning_rate)

    def batch_at(self, step: int) -> int:
        """Sequences in the batch of a step."""
        if step > self.ramp_steps:
            return self.batch
        return round(self.ramp_from + (self.batch - self.ramp_from) * (step - 1) / self.ramp_steps)

    @property
    def part(self) -> int:
        """At most this many sequences are computed at once."""
        return -(-self.batch // self.accumulate)


_INTEGERS = {
    **dict.fromkeys(("steps", "batch", "accumulate", "ramp_from", "eval_interval", "eval_windows", "decay_steps"), 1),
    **dict.fromkeys(
        ("warmup", "stable", "ramp_steps", "seed", "sample_interval", "checkpoint_interval", "patience"), 0
    ),
}
_NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("> 0", lambda x: x > 0),
    "min_learning_rate": (">= 0", lambda x: x >= 0),
    "beta1": (">= 0 and < 1", lambda x: 0 <= x < 1),
    "beta2": (">= 0 and < 1", lambda x: 0 <= x < 1),
    "eps": ("> 0", lambda x: x > 0),
    "weight_decay": (">= 0", lambda x: x >= 0),
    "clip": (">= 0", lambda x: x >= 0),
    "dropout": (">= 0 and < 1", lambda x: 0 <= x < 1),
}


def check(name: str, value: object) -> Any:
    """The value of one field of a recipe, as Python's own int or float, if it is allowed there by itself."""
    if name == "schedule":
        if value not in get_args(Schedule):
            raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {value!r}")
        return value
    if name == "decay_steps" and value is None:
        return None
    if name in _INTEGERS:
        allowed = f"an integer >= {_INTEGERS[name]} and < 2**31"
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name} must be {allowed}, not {value!r}")
        integer = int(value)
        if not _INTEGERS[name] <= integer < 2**31:
            raise ValueError(f"{name} must be {allowed}, not {value}")
        return integer
    allowed, is_allowed = _NUMBERS[name]
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a finite number {allowed}, not {value!r}")
    if not (math.isfinite(value) and is_allowed(float(value))):
        raise ValueError(f"{name} must be a finite number {allowed}, not {value}")
    return float(value)


# --- the papers' recipes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paper:
    """What a paper says, at its own size."""

    scale: float  # of the learning rate, against `_learning_rate` of the same model
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


def _learning_rate(n_params: float) -> float:
    """Interpolated over the logarithm of the size; that of a million parameters for a model with fewer."""
    return float(np.interp(math.log(n_params), np.log(list(_TABLE)), list(_TABLE.values())))


_PAPERS: dict[str, _Paper] = {
    "gpt1": _Paper(
        scale=2.5e-4 / _learning_rate(117e6),
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
        scale=2.5e-4 / _learning_rate(117e6),
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
_PART_TOKENS = (
    8192  # computed at once, unless the recipe says otherwise: keeps activations small beside a laptop's memory
)


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
    learning_rate = given("learning_rate", paper.scale * _learning_rate(n_params))
    ramp_from = given("ramp_from", max(1, round(paper.ramp_from * batch)))
    ramp_steps = round(paper.ramp * steps * 2 * batch / (batch + ramp_from))  # the mean batch of the ramp is a half
    interval = given("eval_interval", max(1, steps // 50))
    values: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "accumulate": min(batch, math.ceil(batch * n_ctx / _PART_TOKENS)),
        "min_learning_rate": paper.floor * learning_rate,
        "warmup": warmup,
        "decay_steps": max(warmup + fixed.get("stable", 0), 1, round(paper.decay * steps)),
        "beta2": beta2,
        "weight_decay": paper.weight_decay,
        "dropout": paper.dropout,
        "ramp_steps": ramp_steps,
        "ramp_from": ramp_from,
        "eval_interval": interval,
        "sample_interval": interval,
    }
    return Recipe(**{**values, **fixed})
