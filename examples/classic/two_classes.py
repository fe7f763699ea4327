"""(f) Transformer (its decoder by itself) and GPT as two small classes: sinusoidal or learned positions."""

from dataclasses import replace

import numpy as np

from pygpt import reference
from pygpt.training import Parameters, architecture


class Transformer:
    def __init__(self, learned=False, **sizes):
        form = architecture.architecture("gpt1", **sizes)
        self.config = replace(form, learned_positions=learned, sinusoidal_positions=not learned)
        self.weights = Parameters(self.config, np.float64)
        self.weights.initialise(seed=0)

    def positions(self, n):  # (n, C): sine and cosine of each angle side by side; they are not added to each other
        angle = np.arange(n)[:, None] / 10000 ** (np.arange(0, self.config.n_embd, 2) / self.config.n_embd)
        return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(n, -1)

    def __call__(self, ids):  # (T,) -> (T, n_vocab): the logits of the token after each
        c, w = self.config, self.weights.tensors
        x = w["embed.weight"][ids] + self.positions(len(ids))
        for i in range(c.n_layer):
            x = reference.norm(c, w, x + reference.attention(c, w, x, i), f"blocks.{i}.attn_norm")
            x = reference.norm(c, w, x + reference.feed_forward(c, w, x, i), f"blocks.{i}.mlp_norm")
        return x @ w["embed.weight"].T


class GPT(Transformer):
    def positions(self, n):  # (n, C): a vector for each place, which training finds like all others
        return self.weights.tensors["pos.weight"][:n]


for kind in (Transformer, GPT):
    made = kind(learned=kind is GPT, n_vocab=10, n_ctx=8, n_layer=2, n_head=2, n_embd=16)
    print(kind.__name__, np.allclose(made([3, 1, 4]), reference.forward(made.config, made.weights.tensors, [3, 1, 4])))
