"""A score needs no logits in memory."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import resource
import numpy as np
from pygpt import Model
from pygpt.config import LayerConfig, ModelConfig

config = ModelConfig(
    n_vocab=40_000, n_ctx=2000, n_embd=16, n_head=1, n_kv_head=1, head_dim=16, n_inner=16, norm="layer_norm",
    norm_eps=1e-5, activation="relu", gated_mlp=False, qkv_bias=False, attn_out_bias=False, mlp_bias=False,
    learned_positions=False, layers=LayerConfig(attn_scale=0.25).repeated(1),
)
shapes = config.tensor_shapes()
rng = np.random.default_rng(0)
model = Model.from_tensors(config, {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in shapes.items()})
ids = rng.integers(0, config.n_vocab, 2000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.score(ids)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_long_score_takes_no_memory_by_its_logits(tmp_path: Path) -> None:
    """They would be 305 MiB. What a step of 256 tokens needs is some 5 MiB, and its threads' stacks; the peak before is
    that of packing."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert int(done.stdout) < 24 * 1024  # KiB
