"""Gemma 2 (Gemma Team 2024, arXiv:2408.00118): Gemma with norms on both sides of each branch, capped scores and logits,
and a window in every other layer.

Names and keys are those of Hugging Face transformers' Gemma2ForCausalLM and of llama.cpp's architecture "gemma2".
"""

from __future__ import annotations

from collections.abc import Collection

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_SOURCES,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    layer_count,
    rope_of,
    undo,
)
from pygpt.families.gemma import embed_scale, fill, minus_one
from pygpt.families.keys import harmless
from pygpt.families.layers import sliding_layers, window_settings, windows


def score_scale(s: Settings) -> float:
    """What scores are multiplied by."""
    s.fill(query_pre_attn_scalar=256)
    return float(s.number("query_pre_attn_scalar") ** -0.5)


def cap(s: Settings, key: str) -> float | None:
    """A cap; null is none."""
    return s.number(key) if s.has(key) else None


def config(s: Settings) -> ModelConfig:
    """config.json of Gemma2ForCausalLM, whose even layers have the window where it does not say."""
    fill(s)
    s.fill(sliding_window=4096, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    slides = sliding_layers(s, [i % 2 == 0 for i in range(layer_count(s))])
    scale, rope, score_cap = score_scale(s), rope_of(s), cap(s, "attn_logit_softcapping")
    return decoder(
        s,
        [LayerConfig(attn_scale=scale, rope=rope, window=w, score_cap=score_cap) for w in windows(s, slides)],
        activation=s.activation("hidden_activation", "gelu_pytorch_tanh"),
        norm_placement="sandwich",
        embed_scale=embed_scale(s),
        logit_cap=cap(s, "final_logit_softcapping"),
        **attention_bias(s),
    )


def gemma_settings(c: ModelConfig, model_type: str, architecture: str) -> dict[str, object]:
    """What the inverses for Gemma 2 and Gemma 3 have alike."""
    scale = c.layers[0].attn_scale
    table = decoder_settings(
        c,
        model_type,
        architecture,
        attention_bias=c.qkv_bias,
        query_pre_attn_scalar=undo(lambda x: float(x**-0.5), scale, scale**-2),
        final_logit_softcapping=c.logit_cap,
        **window_settings(c),
    )
    table["hidden_activation"] = table.pop("hidden_act")
    return table


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return gemma_settings(c, "gemma2", "Gemma2ForCausalLM") | {"attn_logit_softcapping": c.layers[0].score_cap}


def unsaid(s: Settings, names: Collection[str]) -> dict[str, object]:
    """The model of 27 billion parameters, of 46 layers, takes its scores' scale from n_embd / n_head, as llama.cpp
    knows by the number of layers; the others from the width of a head."""
    shared = s.integer("hidden_size") / s.integer("num_attention_heads")
    return {"query_pre_attn_scalar": shared if s.get("num_hidden_layers") == 46 else s.get("head_dim")}


SANDWICH = {
    "blocks.{i}.attn_post_norm": Source("layers.{i}.post_attention_layernorm"),
    "blocks.{i}.mlp_norm": Source("layers.{i}.pre_feedforward_layernorm"),
    "blocks.{i}.mlp_post_norm": Source("layers.{i}.post_feedforward_layernorm"),
}
GGUF_SANDWICH = {
    "blocks.{i}.attn_post_norm": Source("blk.{i}.post_attention_norm"),
    "blocks.{i}.mlp_post_norm": Source("blk.{i}.post_ffw_norm"),
}

FAMILY = Family(
    name="gemma2",
    model_types=("gemma2",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=minus_one(SOURCES | SANDWICH),
    ignored=BUFFERS,
    harmless=harmless("hidden_activation and sliding_window are what counts", "hidden_act", "sliding_window_size"),
    gguf=Gguf(architecture="gemma2", sources=GGUF_SOURCES | GGUF_SANDWICH, unsaid=unsaid),
)
