"""Configurations that between them ask for everything the trainer can do."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pygpt.config import LayerConfig, ModelConfig, Rope


def make_config(**changes: Any) -> ModelConfig:
    """A tiny GPT-2, with changes."""
    values: dict[str, Any] = {
        "n_vocab": 11,
        "n_ctx": 6,
        "n_embd": 8,
        "n_head": 2,
        "n_kv_head": 2,
        "head_dim": 4,
        "n_inner": 12,
        "norm": "layer_norm",
        "norm_eps": 1e-5,
        "activation": "gelu_tanh",
        "gated_mlp": False,
        "qkv_bias": True,
        "attn_out_bias": True,
        "mlp_bias": True,
        "learned_positions": True,
        "layers": LayerConfig(attn_scale=0.5).repeated(2),
        "tied_head": True,
    }
    return ModelConfig(**(values | changes))


def layers(rope: Rope) -> tuple[LayerConfig, ...]:
    return LayerConfig(attn_scale=0.5, rope=rope).repeated(2)


LLAMA = {
    "norm": "rms_norm",
    "activation": "silu",
    "gated_mlp": True,
    "qkv_bias": False,
    "attn_out_bias": False,
    "mlp_bias": False,
    "learned_positions": False,
    "n_kv_head": 1,
}
CONFIGS = {
    "gpt2": make_config(),
    "gpt2-untied": make_config(
        tied_head=False, activation="gelu", layers=(LayerConfig(attn_scale=0.5), LayerConfig(attn_scale=0.25))
    ),
    "gpt1": make_config(norm_placement="after_sum"),
    "llama": make_config(**LLAMA, layers=layers(Rope(theta=100.0, dim=4)), tied_head=False),
    "llama-biases": make_config(
        **{**LLAMA, "qkv_bias": True, "mlp_bias": True}, layers=layers(Rope(theta=100.0, dim=2, interleaved=True))
    ),
    "llama-post-norm": make_config(**LLAMA, layers=layers(Rope(theta=100.0, dim=4)), norm_placement="after_sum"),
    "sinusoidal": make_config(learned_positions=False, sinusoidal_positions=True),
    "parallel": make_config(branches="parallel", embed_scale=1.5, branch_scale=0.7, logit_scale=0.5),
    "parallel-one-norm": make_config(
        branches="parallel_one_norm",
        head_bias=True,
        tied_head=False,
        layers=layers(Rope(theta=9.0, dim=2, interleaved=True)),
    ),
    "parallel-sandwich": make_config(branches="parallel", norm_placement="sandwich", head_bias=True, logit_scale=1.5),
    "after-branch": make_config(
        **LLAMA,
        norm_placement="after_branch",
        qk_norm="whole",
        layers=layers(Rope(theta=100.0, dim=4)),
        tied_head=False,
    ),
    "heads-normed": make_config(**LLAMA, qk_norm="head", layers=layers(Rope(theta=100.0, dim=4))),
    "capped": make_config(
        **{**LLAMA, "activation": "gelu_tanh"},
        norm_placement="sandwich",
        embed_scale=8**0.5,
        logit_cap=1.5,
        layers=tuple(
            LayerConfig(attn_scale=2.0, rope=Rope(theta=9.0, dim=4), window=w, score_cap=1.2) for w in (3, None)
        ),
    ),
    "alibi": make_config(
        learned_positions=False,
        embed_norm=True,
        layers=LayerConfig(attn_scale=0.5, alibi_slopes=(0.5, 0.1)).repeated(2),
    ),
    "embeddings-apart": make_config(
        embed_dim=5, embed_norm=True, embed_scale=3.0, norm_placement="after_sum", activation="relu", head_bias=True
    ),
    "sinks": make_config(
        **{**LLAMA, "activation": "swiglu_clamped", "qkv_bias": True},
        layers=tuple(
            LayerConfig(attn_scale=0.5, window=w, sinks=True, alibi_slopes=s) for w, s in ((2, ()), (None, (0.3, 1.0)))
        ),
    ),
    "four-heads": make_config(n_head=4, n_kv_head=2, head_dim=3, activation="relu"),
}


@pytest.fixture
def configs() -> dict[str, ModelConfig]:
    return CONFIGS


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """A script of examples/ as a module, by its name."""
    folder = Path(__file__).resolve().parents[2] / "examples"

    def load(name: str) -> ModuleType:
        script = folder / f"{name}.py"
        if not script.is_file():
            pytest.skip("examples/ is not here: the tests run outside the repository")
        spec = importlib.util.spec_from_file_location(name, script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load
