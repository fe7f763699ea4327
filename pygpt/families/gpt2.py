"""GPT-2 (Radford et al. 2019): LayerNorm before each half of the block, learned positions, fused q, k and v.

Names and keys are those of Hugging Face transformers' GPT2LMHeadModel and of llama.cpp's GGUF architecture "gpt2".
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    Family,
    Gguf,
    Settings,
    Sizes,
    Source,
    divided_width,
    fused_qkv,
    gpt_settings,
)
from pygpt.families.decoder import GGUF_FUSED
from pygpt.families.gpt import gpt, gpt_keys
from pygpt.families.keys import harmless


def config(s: Settings) -> ModelConfig:
    """config.json of GPT2LMHeadModel. transformers v5 no longer writes n_ctx, which was always n_positions."""
    scale = divided_width(s, "n_embd", "n_head") ** -0.5 if s.flag("scale_attn_weights", True) else 1.0
    by_inverse_layer = s.flag("scale_attn_by_inverse_layer_idx", False)
    layers = LayerConfig(attn_scale=scale).repeated(s.integer("n_layer"))
    n_ctx = s.integer("n_positions" if s.has("n_positions") or not s.has("n_ctx") else "n_ctx")
    s.require("n_ctx", n_ctx, f"n_positions ({n_ctx})")
    return gpt(
        s,
        (replace(layer, attn_scale=scale / (i + 1) if by_inverse_layer else scale) for i, layer in enumerate(layers)),
        n_ctx=n_ctx,
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    first, last = c.layers[0].attn_scale, c.layers[-1].attn_scale
    return gpt_keys(
        c,
        "gpt2",
        "GPT2LMHeadModel",
        scale_attn_weights=first == c.head_dim**-0.5,
        scale_attn_by_inverse_layer_idx=first != last,
    )


def new(sizes: Sizes) -> dict[str, object]:
    """A new model; its MLP is 4 n_embd wide."""
    return gpt_settings(sizes, "gpt2")


FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    config=config,
    settings=settings,
    new=new,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "pos": Source("wpe"),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
        **fused_qkv("h.{i}.attn.c_attn", transposed=True),
        "blocks.{i}.attn.out": Source("h.{i}.attn.c_proj", transposed=True),
        "blocks.{i}.mlp_norm": Source("h.{i}.ln_2"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.c_fc", transposed=True),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.c_proj", transposed=True),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
    harmless=harmless("it asks for scores in float32, which pygpt always computes", "reorder_and_upcast_attn"),
    gguf=Gguf(
        architecture="gpt2",
        sources={**GGUF_FUSED, "pos": Source("position_embd")},
    ),
)
