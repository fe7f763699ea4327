"""Gemma (Gemma Team 2024, arXiv:2403.08295): Llama with a tanh GELU, embeddings times the square root of their width,
and norms whose weights are stored with 1 taken off.

Names and keys are those of Hugging Face transformers' GemmaForCausalLM and of llama.cpp's architecture "gemma", which
stores the norms' weights as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import ACTIVATIONS, Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_SOURCES,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)


def fill(s: Settings) -> None:
    """What all of Gemma's configurations have where a file does not say."""
    s.fill(head_dim=256, rms_norm_eps=1e-6, tie_word_embeddings=True)
    s.require("use_bidirectional_attention", False)


def embed_scale(s: Settings) -> float:
    """The factor of the embeddings. transformers rounds it to the type that it computes in; here that is float32."""
    return float(s.integer("hidden_size") ** 0.5)


def config(s: Settings) -> ModelConfig:
    """config.json of GemmaForCausalLM, where hidden_act "gelu" means the tanh form, as hidden_activation says."""
    fill(s)
    s.require("hidden_activation", "gelu_pytorch_tanh")
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s))
    return decoder(
        s,
        layer.repeated(layer_count(s)),
        activation=s.activation("hidden_act", "gelu_pytorch_tanh", {**ACTIVATIONS, "gelu": "gelu_tanh"}),
        embed_scale=embed_scale(s),
        **attention_bias(s),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "gemma", "GemmaForCausalLM", attention_bias=c.qkv_bias)


def minus_one(sources: Mapping[str, Source]) -> dict[str, Any]:
    """The same sources, where the norms' weights are stored with 1 taken off."""
    return {name: source._replace(minus_one=name.endswith("norm")) for name, source in sources.items()}


FAMILY = Family(
    name="gemma",
    model_types=("gemma",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=minus_one(SOURCES),
    ignored=BUFFERS,
    harmless={},
    gguf=Gguf(architecture="gemma", sources=GGUF_SOURCES),
)
