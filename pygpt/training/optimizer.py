"""The optimiser: AdamW over flat arrays, with the gradients' norm clipped."""

from __future__ import annotations

import math

import numpy as np

from pygpt.training.primitives import Array, Mean, Precision, Primitives, Update
from pygpt.training.recipe import Recipe

_MOST_BETA1 = 0.95


def mean_type(precision: Precision, recipe: Recipe) -> np.dtype[np.generic]:
    """What holds the mean gradient: float32, or with "bfloat16" that type's bits, two bytes less for each value.

    Rounded to nearest, a mean stands still once a step moves it by less than half of its last place, 2^-8 of it at
    most: with beta1 = 0.9 where it is within 4% of what it goes to, with 0.95 within 8%. Closer to 1 it would be too
    far off and stays float32, as does the mean square, whose beta2 of 0.999 could leave it at a fifth. Zhai et al. 2021
    (arXiv:2106.04560, section 3.4) kept the mean alone in bfloat16 too, and saw no effect on training.
    """
    return np.dtype(np.uint16 if precision == "bfloat16" and recipe.beta1 <= _MOST_BETA1 else np.float32)


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2).

    For each value, with gradient g and t the number of steps so far, this one included:

        m = beta1 m + (1 - beta1) g                     the mean gradient
        v = beta2 v + (1 - beta2) g^2                   the mean square
        p = p - lr weight_decay p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Only matrices decay (Radford et al. 2018, section 4.1). The gradients are first scaled so that the norm of all of
    them together is at most `clip` (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).
    """

    def __init__(self, primitives: Primitives, params: Array, n_decayed: int, recipe: Recipe) -> None:
        """params (n,) are updated in place; weight decay is for the first n_decayed of them."""
        self.params = params
        mean = mean_type(primitives.precision, recipe)
        self.m: Mean = np.zeros(params.shape, params.dtype if mean == np.float32 else mean)
        self.v: Array = np.zeros_like(params)
        self._primitives, self._n_decayed, self._recipe = primitives, n_decayed, recipe

    def norm(self, grads: Array) -> float:
        """The root of the sum of all squares: before clipping."""
        return math.sqrt(self._primitives.sum_of_squares(grads))

    def update(self, grads: Array, norm: float, step: int) -> None:
        """Step number `step`, counted from 1, with the gradients (n,) and their norm."""
        r = self._recipe
        scale = r.clip / norm if r.clip and norm > r.clip else 1.0
        lr = r.learning_rate_at(step)
        for part, decay in ((slice(self._n_decayed), r.weight_decay), (slice(self._n_decayed, None), 0.0)):
            p, g, m, v = self.params[part], grads[part], self.m[part], self.v[part]
            self._primitives.adamw(p, g, m, v, Update(lr, r.beta1, r.beta2, r.eps, decay, step, scale))
