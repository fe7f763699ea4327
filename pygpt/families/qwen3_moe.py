"""Qwen3's mixtures (Yang et al. 2025, arXiv:2505.09388): Qwen3 with routed experts.

Names and keys are those of Hugging Face transformers' Qwen3MoeForCausalLM and of llama.cpp's architecture "qwen3moe".
"""

from __future__ import annotations

from pygpt.config import Experts, LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_QK_NORMS,
    GGUF_SOURCES,
    QK_NORMS,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.keys import harmless
from pygpt.families.layers import windows
from pygpt.families.qwen2_moe import routed_settings, with_experts
from pygpt.families.routed import GGUF_EXPERTS, HARMLESS, PARTS, expert_count, expert_sources, fused_sources


def config(s: Settings) -> ModelConfig:
    """config.json of Qwen3MoeForCausalLM. With use_sliding_window all layers have the window."""
    used = s.flag("use_sliding_window", False)
    s.fill(sliding_window=4096)
    (window,) = windows(s, [used and s.has("sliding_window")])
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s), window=window)
    experts = Experts(
        n_expert=expert_count(s, 128),
        n_used=s.integer("num_experts_per_tok", 8),
        n_inner=s.integer("moe_intermediate_size", 768),
        normalized=s.flag("norm_topk_prob", False),
    )
    layers = with_experts(s, layer.repeated(layer_count(s)), experts)
    return decoder(s, layers, qk_norm="head", **attention_bias(s))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    window = c.layers[0].window
    return decoder_settings(
        c,
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        attention_bias=c.qkv_bias,
        use_sliding_window=window is not None,
        sliding_window=window,
        **routed_settings(c),
    )


FAMILY = Family(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        **QK_NORMS,
        "blocks.{i}.mlp.router": Source("layers.{i}.mlp.gate"),
        **expert_sources(*(f"layers.{{i}}.mlp.experts.{{e}}.{part}_proj" for part in PARTS)),
    },
    ignored=BUFFERS,
    harmless={**HARMLESS, **harmless("read by no implementation of this family", "max_window_layers")},
    gguf=Gguf(
        architecture="qwen3moe",
        sources=GGUF_SOURCES | GGUF_QK_NORMS | GGUF_EXPERTS,
        unsaid=lambda _, __: {"norm_topk_prob": True},
    ),
    layouts=(fused_sources("layers.{i}.mlp.experts"),),
)
