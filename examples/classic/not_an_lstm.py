"""(c) "Build GPT-2 in Keras" with Embedding, LSTM, LSTM, Dense: a well-known article's model, and GPT-2 beside it.

An LSTM is a good layer, but GPT has none. All that it keeps of a text is one state, written anew at each word; a GPT's
token looks at every earlier one directly. So the first word fades in one and not in the other, before any training.
"""

import numpy as np

from pygpt import reference
from pygpt.training import Parameters
from pygpt.training.architecture import architecture

V, C, T, rng = 1000, 64, 128, np.random.default_rng(0)
embed = rng.normal(0, 1, (V, C))
lstms = [(rng.uniform(-1, 1, (2 * C, 4 * C)) / np.sqrt(C), np.repeat([0, 1, 0, 0], C)) for _ in range(2)]  # as Keras


def lstm(x, weight, bias):
    """(T, C) -> (T, C): gates i, f, o and the new values g of each step from its input and the last step's output."""
    h, c, out = np.zeros(C), np.zeros(C), []
    for row in x:  # cannot be done at once: each step waits for the one before
        i, f, o, g = np.split(np.concatenate([row, h]) @ weight + bias, 4)
        c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
        h = reference.sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out)


config = architecture("gpt2", n_vocab=V, n_ctx=T, n_layer=2, n_head=4, n_embd=C)
print(f"The article: embed {V * C:,}, lstm 2 x {lstms[0][0].size + 4 * C:,}, dense {V * C + V:,}")
print(f"GPT-2's form at the same width:\n{config.summary()}")
params = Parameters(config, np.float64)
params.initialise(seed=0)
texts = [[first, *range(2, T + 1)] for first in (0, 1)]
states = [lstm(lstm(embed[x], *lstms[0]), *lstms[1]) for x in texts]
others = [reference.hidden(config, params.tensors, x) for x in texts]
for t in (1, 4, 16, 64, 127):
    lost, kept = (np.linalg.norm(b[t] - a[t]) / np.linalg.norm(a[t]) for a, b in (states, others))
    print(f"another first word changes the state {t:3} words later by {lost:.0e} in the LSTM, {kept:.0e} in GPT-2")
