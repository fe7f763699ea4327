"""Gemma 3's text models (Gemma Team 2025, arXiv:2503.19786): Gemma 2 with RMS norms of queries and keys in the place of
caps, and another rotary base in the layers with a window, five of six.

Names and keys are those of Hugging Face transformers' Gemma3ForCausalLM and of llama.cpp's architecture "gemma3".
"""

from __future__ import annotations

from collections.abc import Collection

from pygpt.config import LayerConfig, ModelConfig, Rope
from pygpt.families.base import Family, Gguf, Settings
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_QK_NORMS,
    GGUF_SOURCES,
    QK_NORMS,
    SOURCES,
    attention_bias,
    decoder,
    head_width,
    layer_count,
)
from pygpt.families.gemma import embed_scale, fill, minus_one
from pygpt.families.gemma2 import GGUF_SANDWICH, SANDWICH, cap, gemma_settings, score_scale
from pygpt.families.layers import rope_scaling, rope_settings, sliding_layers, windows


def ropes(s: Settings) -> tuple[Rope, Rope]:
    """Of layers with a window, and of those without: transformers v5 has a table for each, v4 a stretch of the second
    alone, `rope_scaling`."""
    both, stretch = s.table("rope_parameters"), s.table("rope_scaling")
    dim, n_ctx = head_width(s), s.integer("max_position_embeddings")

    def rope(kind: str, key: str, usual: float, stretch: Settings | None) -> Rope:
        table = both.table(kind) if both is not None else None
        scalings = [rope_scaling(t, dim, n_ctx) for t in (stretch, table) if t is not None]
        theta = s.number(key, usual)
        return Rope(
            theta=theta if table is None else table.number("rope_theta", theta),
            dim=dim,
            scaling=next((scaling for scaling in scalings if scaling is not None), None),
        )

    return (
        rope("sliding_attention", "rope_local_base_freq", 1e4, None),
        rope("full_attention", "rope_theta", 1e6, stretch),
    )


def config(s: Settings) -> ModelConfig:
    """config.json of Gemma3ForCausalLM. Large models leave out most that is usual."""
    fill(s)
    s.fill(
        vocab_size=262208,
        max_position_embeddings=131072,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        sliding_window=4096,
    )
    every = s.integer("sliding_window_pattern", 6)
    s.require("_sliding_window_pattern", every)
    s.require("attn_logit_softcapping", (), "null: this architecture does not cap scores")
    slides = sliding_layers(s, [(i + 1) % every != 0 for i in range(layer_count(s))])
    scale, (local, whole) = score_scale(s), ropes(s)
    return decoder(
        s,
        [
            LayerConfig(attn_scale=scale, rope=local if window else whole, window=window)
            for window in windows(s, slides)
        ],
        activation=s.activation("hidden_activation", "gelu_pytorch_tanh"),
        norm_placement="sandwich",
        qk_norm="head",
        embed_scale=embed_scale(s),
        logit_cap=cap(s, "final_logit_softcapping"),
        **attention_bias(s),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    table = gemma_settings(c, "gemma3_text", "Gemma3ForCausalLM")
    for layer in c.layers:
        if layer.rope is not None and layer.window is None:
            table |= rope_settings(layer.rope, c.n_ctx)
        elif layer.rope is not None:
            table["rope_local_base_freq"] = layer.rope.theta
    return table


def unsaid(s: Settings, names: Collection[str]) -> dict[str, object]:
    """As of Gemma 2, where the model of 27 billion parameters has 62 layers; and no window in any layer where the file
    has no width of one."""
    shared = s.integer("hidden_size") / s.integer("num_attention_heads")
    scalar = {"query_pre_attn_scalar": shared if s.get("num_hidden_layers") == 62 else s.get("head_dim")}
    return scalar if s.has("sliding_window") else scalar | {"sliding_window_pattern": 1}


FAMILY = Family(
    name="gemma3_text",
    model_types=("gemma3_text",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=minus_one(SOURCES | SANDWICH | QK_NORMS),
    ignored=BUFFERS,
    harmless={},
    gguf=Gguf(architecture="gemma3", sources=GGUF_SOURCES | GGUF_SANDWICH | GGUF_QK_NORMS, unsaid=unsaid),
)
