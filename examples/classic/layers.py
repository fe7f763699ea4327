"""(b) A GPT put together from layers, compiled and fitted: python examples/classic/layers.py [TEXT.txt]"""

import sys
import tempfile
from pathlib import Path

from pygpt.config import LayerConfig, ModelConfig
from pygpt.training import LanguageModel, Network, Parameters, Recipe, RunFolder, prepare, train
from pygpt.training.kernels import Kernels

text = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "fables.txt")
attention = LayerConfig(attn_scale=16**-0.5)  # scores are divided by sqrt(width of a head)
with tempfile.TemporaryDirectory() as folder, RunFolder.create(Path(folder, "run"), {"kind": "example"}) as run:
    data = prepare(text, run.data, tokenizer="char")
    # fmt: off
    config = ModelConfig(
        n_vocab=data.n_vocab, n_embd=64,                          # Embedding(n_vocab, 64)
        n_ctx=64, learned_positions=True,                         # a vector for each place; or sinusoidal_positions
        n_head=4, n_kv_head=4, head_dim=16,                       # MultiHeadAttention(4, 16), which sees no later token
        n_inner=256, activation="gelu", gated_mlp=False,          # Dense(256, "gelu"), Dense(64)
        norm="layer_norm", norm_eps=1e-5, norm_placement="before_branch",  # x + layer(LayerNorm(x)), for each of them
        layers=attention.repeated(2), qkv_bias=True, attn_out_bias=True, mlp_bias=True,  # all of that twice
        tied_head=True,                      # Dense(n_vocab), by the embedding's matrix; the loss has the softmax in it
    )
    # fmt: on
    print(config.summary())

    # compile: the optimiser is AdamW, the loss cross-entropy of the next token
    recipe = Recipe(steps=200, batch=16, learning_rate=4e-3, warmup=20, eval_interval=50)
    kernels, params = Kernels(), Parameters(config)
    params.initialise(recipe.seed)
    objective = LanguageModel(Network(config, kernels), params, data, recipe)

    # fit: evaluates, keeps the best checkpoint, draws the loss; `pygpt.pretrain` does all of this file in one call
    done = train(objective, recipe, kernels, run)
    print(f"validation loss {done.best_loss:.3f} nats a character\n{objective.sample()}")
