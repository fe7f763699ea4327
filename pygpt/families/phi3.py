"""Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024, arXiv:2404.14219 and arXiv:2412.08905): Llama whose q, k and v are one
matrix, as are gate and up, with a window, or with longrope.

Names and keys are those of Hugging Face transformers' Phi3ForCausalLM and of llama.cpp's architecture "phi3".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source, fused_qkv
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_SOURCES,
    SOURCES,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.keys import fixed, harmless
from pygpt.families.layers import windows

KINDS = {"default": "default", "longrope": "longrope", "su": "longrope", "yarn": "longrope"}  # the last two are older


def config(s: Settings) -> ModelConfig:
    """config.json of Phi3ForCausalLM. Under longrope max_position_embeddings is the longest context, and the usual one
    is original_max_position_embeddings."""
    s.fill(original_max_position_embeddings=min(4096, s.integer("max_position_embeddings")), rms_norm_eps=1e-5)
    (window,) = windows(s, [s.has("sliding_window")])
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s, partial=1.0, kinds=KINDS), window=window)
    return decoder(s, layer.repeated(layer_count(s)))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    table = decoder_settings(c, "phi3", "Phi3ForCausalLM", sliding_window=c.layers[0].window)
    if (rope := c.layers[0].rope) is not None:
        table["partial_rotary_factor"] = rope.dim / c.head_dim
        if rope.scaling is not None:
            table["original_max_position_embeddings"] = rope.scaling.original_n_ctx
    return table


FAMILY = Family(
    name="phi3",
    model_types=("phi3",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        **fused_qkv("layers.{i}.self_attn.qkv_proj"),
        "blocks.{i}.mlp.gate": Source("layers.{i}.mlp.gate_up_proj"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.gate_up_proj"),
    },
    ignored=BUFFERS,
    harmless={
        **harmless("the Python code beside the checkpoint is an older copy of transformers' own", "auto_map"),
        **fixed("this architecture has no biases", attention_bias=False, mlp_bias=False, lm_head_bias=False),
        **fixed("every layer is like every other, and no position is skipped", full_attn_mod=1, interpolate_factor=1),
    },
    gguf=Gguf(
        architecture="phi3",
        sources={
            **GGUF_SOURCES,
            **fused_qkv("blk.{i}.attn_qkv"),
            "blocks.{i}.mlp.gate": Source("blk.{i}.ffn_up"),
            "blocks.{i}.mlp.up": Source("blk.{i}.ffn_up"),
        },
    ),
)
