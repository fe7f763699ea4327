"""Granite (IBM 2024, https://github.com/ibm-granite/granite-3.0-language-models): Llama with four factors, of the
embeddings, the scores, the branches and the logits (maximal update parametrisation, arXiv:2203.03466).

Names and keys are those of Hugging Face transformers' GraniteForCausalLM and of llama.cpp's architecture "granite".
"""

from __future__ import annotations

from collections.abc import Collection

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_INTERLEAVED,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    layer_count,
    rope_of,
    undo,
)


def config(s: Settings) -> ModelConfig:
    """config.json of GraniteForCausalLM; each factor is 1 where it does not say."""
    layer = LayerConfig(attn_scale=s.number("attention_multiplier", 1.0), rope=rope_of(s))
    return decoder(
        s,
        layer.repeated(layer_count(s)),
        embed_scale=s.number("embedding_multiplier", 1.0),
        branch_scale=s.number("residual_multiplier", 1.0),
        logit_scale=1.0 / s.number("logits_scaling", 1.0),
        mlp_bias=s.flag("mlp_bias", False),
        **attention_bias(s),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(
        c,
        "granite",
        "GraniteForCausalLM",
        attention_multiplier=c.layers[0].attn_scale,
        embedding_multiplier=c.embed_scale,
        residual_multiplier=c.branch_scale,
        logits_scaling=undo(lambda x: 1.0 / x, c.logit_scale, 1.0 / c.logit_scale),
        attention_bias=c.qkv_bias,
        mlp_bias=c.mlp_bias,
    )


def unsaid(s: Settings, _: Collection[str]) -> dict[str, object]:
    """llama.cpp takes the flag for one of whether this architecture has rotary positions at all."""
    s.require("rope_finetuned", True)
    return {"attention_multiplier": s.integer("head_dim") ** -0.5}


FAMILY = Family(
    name="granite",
    model_types=("granite",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=SOURCES,
    ignored=BUFFERS,
    harmless={},
    gguf=Gguf(
        architecture="granite",
        sources=GGUF_INTERLEAVED,
        keys={"rope_finetuned": "rope.scaling.finetuned"},
        unsaid=unsaid,
    ),
)
