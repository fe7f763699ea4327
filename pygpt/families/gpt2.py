"""GPT-2 (Radford et al. 2019): LayerNorm before each half of the block, learned positions, fused q, k and v.

Names and keys are those of Hugging Face transformers' GPT2LMHeadModel and of llama.cpp's GGUF architecture "gpt2".
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Family,
    Gguf,
    Settings,
    Sizes,
    Source,
    divided_width,
    fused_qkv,
    gpt_settings,
    special_tokens,
    token_settings,
)
from pygpt.families.decoder import GGUF_FUSED
from pygpt.families.keys import harmless


def config(s: Settings) -> ModelConfig:
    """config.json of GPT2LMHeadModel. transformers v5 no longer writes n_ctx, which was always n_positions."""
    n_embd, n_head, n_vocab = s.integer("n_embd"), s.integer("n_head"), s.integer("vocab_size")
    head_dim = divided_width(s, "n_embd", "n_head")
    scale = head_dim**-0.5 if s.flag("scale_attn_weights", True) else 1.0
    by_inverse_layer = s.flag("scale_attn_by_inverse_layer_idx", False)
    layers = LayerConfig(attn_scale=scale).repeated(s.integer("n_layer"))
    n_ctx = s.integer("n_positions" if s.has("n_positions") or not s.has("n_ctx") else "n_ctx")
    s.require("n_ctx", n_ctx, f"n_positions ({n_ctx})")
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=n_ctx,
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=s.integer("n_inner", 4 * n_embd),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        learned_positions=True,
        layers=tuple(
            replace(layer, attn_scale=scale / (i + 1) if by_inverse_layer else scale) for i, layer in enumerate(layers)
        ),
        tied_head=s.flag("tie_word_embeddings", True),
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    first, last = c.layers[0].attn_scale, c.layers[-1].attn_scale
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": c.n_vocab,
        "n_positions": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.n_inner,
        "activation_function": ACTIVATION_NAMES[c.activation],
        "layer_norm_epsilon": c.norm_eps,
        "scale_attn_weights": first == c.head_dim**-0.5,
        "scale_attn_by_inverse_layer_idx": first != last,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


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
