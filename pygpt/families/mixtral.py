"""Mixtral (Jiang et al. 2024, arXiv:2401.04088): Llama with eight experts in each layer, of which a token runs two.

Names and keys are those of Hugging Face transformers' MixtralForCausalLM and of llama.cpp's architecture "llama".
"""

from __future__ import annotations

from pygpt.config import Experts, LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_INTERLEAVED,
    SOURCES,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.layers import windows
from pygpt.families.routed import GGUF_EXPERTS, HARMLESS, expert_count, expert_sources, experts_of, fused_sources

_ROUTER = "blocks.{i}.mlp.router"


def config(s: Settings) -> ModelConfig:
    """config.json of MixtralForCausalLM."""
    experts = Experts(
        n_expert=expert_count(s, 8),
        n_used=s.integer("num_experts_per_tok", 2),
        n_inner=s.integer("intermediate_size"),
    )
    (window,) = windows(s, [s.has("sliding_window")])
    rope = rope_of(s, theta=1e6)
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope, window=window, experts=experts)
    return decoder(s, layer.repeated(layer_count(s)))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    e = experts_of(c)
    return decoder_settings(
        c,
        "mixtral",
        "MixtralForCausalLM",
        sliding_window=c.layers[0].window,
        num_local_experts=e and e.n_expert,
        num_experts_per_tok=e and e.n_used,
    )


FAMILY = Family(
    name="mixtral",
    model_types=("mixtral",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        _ROUTER: Source("layers.{i}.block_sparse_moe.gate"),
        **expert_sources(*(f"layers.{{i}}.block_sparse_moe.experts.{{e}}.{w}" for w in ("w1", "w3", "w2"))),
    },
    ignored=BUFFERS,
    harmless=HARMLESS,
    gguf=Gguf(
        architecture="llama",
        sources=GGUF_INTERLEAVED | GGUF_EXPERTS,
        experts=True,
    ),
    layouts=({_ROUTER: Source("layers.{i}.mlp.gate"), **fused_sources("layers.{i}.mlp.experts")},),
)
