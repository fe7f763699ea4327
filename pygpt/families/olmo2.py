"""OLMo 2 (Walsh et al. 2025, arXiv:2501.00656): Llama with the norms after the branches and RMS norms of all queries
and all keys of a token.

Names and keys are those of Hugging Face transformers' Olmo2ForCausalLM and of llama.cpp's architecture "olmo2".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
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


def config(s: Settings) -> ModelConfig:
    """config.json of Olmo2ForCausalLM."""
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s))
    s.fill(rms_norm_eps=1e-5)
    return decoder(
        s, layer.repeated(layer_count(s)), norm_placement="after_branch", qk_norm="whole", **attention_bias(s)
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "olmo2", "Olmo2ForCausalLM", attention_bias=c.qkv_bias)


FAMILY = Family(
    name="olmo2",
    model_types=("olmo2",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        **QK_NORMS,
        "blocks.{i}.attn_norm": Source("layers.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.post_feedforward_layernorm"),
    },
    ignored=BUFFERS,
    harmless={},
    gguf=Gguf(
        architecture="olmo2",
        sources={
            **GGUF_SOURCES,
            **GGUF_QK_NORMS,
            "blocks.{i}.attn_norm": Source("blk.{i}.post_attention_norm"),
            "blocks.{i}.mlp_norm": Source("blk.{i}.post_ffw_norm"),
        },
    ),
)
