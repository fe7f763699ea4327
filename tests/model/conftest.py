"""Small random models, run by the core itself: the public API has no batches and chooses some options on its own."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import Experts, LayerConfig, ModelConfig, Rope

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]

SIZES = {"n_vocab": 101, "n_ctx": 700, "n_embd": 60, "n_head": 6, "head_dim": 10, "n_inner": 77}
GPT2 = ModelConfig(
    **SIZES, n_kv_head=6, norm="layer_norm", norm_eps=1e-5, activation="gelu_tanh", gated_mlp=False,
    qkv_bias=True, attn_out_bias=True, mlp_bias=True, learned_positions=True,
    layers=LayerConfig(attn_scale=10**-0.5).repeated(2),
)  # fmt: skip
LLAMA = ModelConfig(
    **SIZES, n_kv_head=2, norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True,
    qkv_bias=False, attn_out_bias=False, mlp_bias=True, learned_positions=False,
    layers=LayerConfig(attn_scale=10**-0.5, rope=Rope(theta=10000.0, dim=8)).repeated(2), tied_head=False,
)  # fmt: skip
INTERLEAVED = ModelConfig(
    **SIZES, n_kv_head=3, norm="rms_norm", norm_eps=1e-6, activation="gelu", gated_mlp=True,
    qkv_bias=True, attn_out_bias=False, mlp_bias=False, learned_positions=False,
    layers=tuple(LayerConfig(attn_scale=s, rope=Rope(theta=500.0, dim=10, interleaved=True)) for s in (0.3, 0.15)),
    tied_head=False,
)  # fmt: skip
MULTI_QUERY = ModelConfig(
    n_vocab=33, n_ctx=700, n_embd=31, n_head=5, n_kv_head=1, head_dim=33, n_inner=17,
    norm="layer_norm", norm_eps=1e-5, activation="relu", gated_mlp=False, qkv_bias=False, attn_out_bias=True,
    mlp_bias=False, learned_positions=True,
    layers=(LayerConfig(attn_scale=0.2, rope=Rope(theta=100.0, dim=32)),),
)  # fmt: skip
# Windows that end within a page, a segment and several of them, and one wider than any test's tokens.
WINDOWS = replace(LLAMA, layers=tuple(replace(LLAMA.layers[0], window=w, score_cap=c)
                                      for w, c in ((20, None), (300, 1.5), (1, None), (2000, None))))  # fmt: skip
ALIBI = replace(GPT2, learned_positions=False, layers=(
    LayerConfig(attn_scale=10**-0.5, alibi_slopes=tuple(2.0 ** -(i + 1) for i in range(6))),
    LayerConfig(attn_scale=10**-0.5, alibi_slopes=(0.01,) * 6, window=130, score_cap=0.5, sinks=True),
))  # fmt: skip
POST_NORM = replace(GPT2, norm_placement="after_sum", layers=GPT2.layers[:1] * 3)
SANDWICH = replace(LLAMA, norm_placement="sandwich")
PARALLEL = replace(GPT2, branches="parallel")
ONE_NORM = replace(LLAMA, branches="parallel_one_norm")
SCALED = replace(LLAMA, qk_norm="head", embed_scale=7.5, branch_scale=0.5, logit_scale=0.25, logit_cap=1.5)
NARROW = replace(POST_NORM, qk_norm="whole", embed_dim=44, embed_norm=True, head_bias=True)
WIDE = replace(ONE_NORM, activation="swiglu_clamped", embed_dim=70, head_bias=True)
_ROUTED = LLAMA.layers[0]
EXPERTS = replace(LLAMA, layers=(
    replace(_ROUTED, experts=Experts(n_expert=7, n_used=3, n_inner=33, normalized=False, shared_inner=50,
                                     shared_gate=True)),
    _ROUTED,
    replace(_ROUTED, experts=Experts(n_expert=40, n_used=2, n_inner=150, router_bias=True)),
    replace(_ROUTED, experts=Experts(n_expert=3, n_used=3, n_inner=20, shared_inner=7)),
))  # fmt: skip
CONFIGS = {
    "scaled": SCALED, "narrow": NARROW, "wide": WIDE,
    "sandwich": SANDWICH, "parallel": PARALLEL, "one norm": ONE_NORM,
    "gpt2": GPT2, "llama": LLAMA, "interleaved": INTERLEAVED, "multi-query": MULTI_QUERY, "post-norm": POST_NORM,
    "windows": WINDOWS, "alibi": ALIBI, "experts": EXPERTS,
}  # fmt: skip


class Cores:
    """Engines by name, the keys of CONFIGS; all sizes are odd ones."""

    configs = CONFIGS

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def engine(
        name: str,
        weights: str = "float32",
        kv: str = "float32",
        threads: int = 2,
        isa: str | None = None,
        backend: str = "own",
    ) -> _core.Engine:
        """A model whose random tensors depend on `name` alone."""
        config, rng = CONFIGS[name], np.random.default_rng(0)
        builder = _core.EngineBuilder(config, weights=weights, kv=kv, threads=threads, isa=isa, threads_backend=backend)  # type: ignore[arg-type]
        for tensor, shape in config.tensor_shapes().items():
            values = rng.standard_normal(shape) * (0.15 if len(shape) == 2 else 0.3) + ("norm.weight" in tensor)
            builder.add(tensor, values.astype(np.float32), "float32")
        return builder.build()

    @staticmethod
    def ids(name: str, n: int, seed: int = 1) -> Ids:
        """(n,) random token ids."""
        return np.random.default_rng(seed).integers(0, CONFIGS[name].n_vocab, n, dtype=np.int32)

    @staticmethod
    def logits(model: _core.Engine, tokens: Ids, session: _core.Session | None = None) -> Floats:
        """(T, n_vocab) of every token, in a session of their own unless one is given."""
        return model.forward([(session or model.session(), tokens)], output="all")[0]

    @staticmethod
    def same(found: Floats, expected: Floats) -> bool:
        """Equal, and numbers: a model that gives NaN everywhere proves nothing."""
        return bool(np.isfinite(expected).all()) and np.array_equal(found, expected)


@pytest.fixture(scope="session")
def cores() -> type[Cores]:
    return Cores


@pytest.fixture(
    params=[
        ("float32", "float32"),
        ("float32", "float16"),
        ("bfloat16", "float32"),
        ("bfloat16", "float16"),
        ("int8", "float16"),
        ("int8", "float32"),
        ("int8", "int8"),
        ("float32", "int8"),
    ],
    ids="-".join,
)
def formats(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Every pair of formats of weights and of cached keys and values."""
    pair: tuple[str, str] = request.param
    return pair
