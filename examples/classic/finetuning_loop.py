"""(e) Fine-tuning written out: batches, Adam, cross-entropy, a validation loss after each epoch, early stopping.
`pygpt.finetune("tiny", "text.txt", "run", patience=2)` is all of it in a call, which can be stopped and go on.
"""

from pathlib import Path

import numpy as np

import pygpt
from pygpt.training import Network, Parameters, Recipe
from pygpt.training.base import load_base
from pygpt.training.kernels import Kernels
from pygpt.training.optimizer import AdamW

config, tensors, tokenizer, _ = load_base("tiny")
text = (Path(__file__).parents[1] / "fables.txt").read_text(encoding="utf-8")[:8_000]
ids = np.array(tokenizer.encode(text), np.int32)
n = (len(ids) - 1) // 64  # sequences of 64 tokens, the last tenth of them for validation
x, y, n_train = ids[: n * 64].reshape(n, 64), ids[1 : n * 64 + 1].reshape(n, 64), n * 9 // 10
kernels, params, grads = Kernels(), Parameters(config), Parameters(config)
params.fill(tensors)
network, rng = Network(config, kernels, dropout=0.1), np.random.Generator(np.random.SFC64(0))
adam = AdamW(kernels, params.flat, params.n_decayed, Recipe(steps=1000, batch=16, learning_rate=3e-4))
step, best, kept, worse = 0, float("inf"), params.flat.copy(), 0

for epoch in range(8):
    for batch in np.array_split(rng.permutation(n_train), -(-n_train // 16)):
        step += 1
        grads.flat[:] = 0
        network.loss_and_gradients(params, grads, x[batch], y[batch], rng=rng)  # cross-entropy, backward
        adam.update(grads.flat, adam.norm(grads.flat), step)
    loss = network.loss(params, x[n_train:], y[n_train:])[0] / y[n_train:].size
    print(f"epoch {epoch}: validation loss {loss:.3f}")
    best, kept, worse = (loss, params.flat.copy(), 0) if loss < best else (best, kept, worse + 1)
    if worse == 2:
        break
params.flat[:] = kept  # of the best epoch
model = pygpt.Model.from_tensors(config, params.tensors, tokenizer)
print("A Fox" + model.generate("A Fox", max_tokens=60, seed=1).text)
