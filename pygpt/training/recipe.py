"""How a model is trained: the numbers of a run, and their course over its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypedDict, get_args

from pygpt.fields import doc, documented

Schedule = Literal["cosine", "linear"]


class RecipeOptions(TypedDict, total=False):
    """The fields of `Recipe` as keyword arguments, for type checkers."""

    steps: int
    batch: int
    learning_rate: float
    accumulate: int
    min_learning_rate: float
    warmup: int
    stable: int
    decay_steps: int | None
    schedule: Schedule
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip: float
    dropout: float
    ramp_steps: int
    ramp_from: int
    seed: int
    eval_interval: int
    eval_windows: int
    sample_interval: int
    checkpoint_interval: int
    patience: int


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The numbers of a training run. Steps count from 1. ValueError or TypeError names the field and what is allowed.

    Everything random in a run is a function of `seed` and the step, so a run that goes on from a saved state has no
    other state to restore than its arrays. AdamW is Loshchilov and Hutter 2019, arXiv:1711.05101, by which norms and
    biases do not decay; clipping is Pascanu et al. 2013, arXiv:1211.5063; dropout Srivastava et al. 2014; the cosine
    Loshchilov and Hutter 2017, arXiv:1608.03983; with `stable` steps the schedule is "warmup-stable-decay", Hu et al.
    2024, arXiv:2404.06395.
    """

    steps: int = field(metadata=doc("Updates of the parameters."))
    batch: int = field(metadata=doc("Sequences in one update."))
    learning_rate: float = field(metadata=doc("The largest one, at the end of the warm-up."))
    accumulate: int = field(
        default=1,
        metadata=doc("Parts that a batch is cut into, whose gradients are added up: memory is that of a part."),
    )
    min_learning_rate: float = field(default=0.0, metadata=doc("Where the decay of the learning rate ends."))
    warmup: int = field(default=0, metadata=doc("Steps in which the learning rate rises in a straight line."))
    stable: int = field(default=0, metadata=doc("Steps at the largest learning rate before the decay."))
    decay_steps: int | None = field(
        default=None, metadata=doc("The step at which the decay ends.", none="the last one")
    )
    schedule: Schedule = field(
        default="cosine", metadata=doc("The form of the decay: half a cosine, or a straight line.")
    )
    beta1: float = field(default=0.9, metadata=doc("How much of AdamW's mean gradient is kept at each step."))
    beta2: float = field(default=0.999, metadata=doc("The same for the mean squared gradient."))
    eps: float = field(default=1e-8, metadata=doc("Added to the root of the mean squared gradient, which divides."))
    weight_decay: float = field(
        default=0.0, metadata=doc("The share of a matrix that is taken off, times the learning rate.")
    )
    clip: float = field(
        default=1.0,
        metadata=doc("The largest norm of all gradients together, to which longer ones are scaled; 0: no limit."),
    )
    dropout: float = field(default=0.0, metadata=doc("The share of values dropped."))
    ramp_steps: int = field(
        default=0, metadata=doc("Steps in which the batch grows in a straight line; 0: it is full from the start.")
    )
    ramp_from: int = field(default=1, metadata=doc("Sequences in the first batch of the ramp."))
    seed: int = field(default=0, metadata=doc("Of the initial values, the data's order and dropout."))
    eval_interval: int = field(
        default=100,
        metadata=doc("Steps between evaluations; there is one before the first step and one after the last, too."),
    )
    eval_windows: int = field(default=128, metadata=doc("Sequences of the validation text in one evaluation."))
    sample_interval: int = field(default=0, metadata=doc("Steps between texts written by the model; 0: none."))
    checkpoint_interval: int = field(
        default=0, metadata=doc("Steps between checkpoints of the model as it is; 0: one at each evaluation.")
    )
    patience: int = field(
        default=0, metadata=doc("Evaluations without a better loss after which the run ends; 0: it runs to the end.")
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, check(f.name, getattr(self, f.name)))
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

    def extended(self, steps: int) -> Recipe:
        """The same with more steps: the decay of the learning rate is stretched, so that it ends at the same share of
        the run, or begins later by as many steps where it follows a `stable` part. ValueError: steps are not more."""
        if check("steps", steps) <= self.steps:
            raise ValueError(f"steps must be more than the {self.steps} that the run has, not {steps}")
        end, stable = self.decay_steps, self.stable
        if stable:
            stable += steps - self.steps
            end = None if end is None else end + steps - self.steps
        elif end is not None:
            end = max(self.warmup, round(end * steps / self.steps))
        return replace(self, steps=steps, decay_steps=end, stable=stable)

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
