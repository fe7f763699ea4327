"""Phi-1, Phi-1.5 and Phi-2 (Li et al. 2023, arXiv:2309.05463): one norm feeds attention and MLP side by side, rotary
positions turn a part of each head, and everything has a bias.

Names and keys are those of Hugging Face transformers' PhiForCausalLM and of llama.cpp's architecture "phi2".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
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


def config(s: Settings) -> ModelConfig:
    """config.json of PhiForCausalLM."""
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s, partial=0.5))
    return decoder(
        s,
        layer.repeated(layer_count(s)),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_eps", 1e-5),
        activation=s.activation("hidden_act", "gelu_new"),
        gated_mlp=False,
        branches="parallel_one_norm",
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        head_bias=True,
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    table = decoder_settings(c, "phi", "PhiForCausalLM", "layer_norm_eps")
    rope = c.layers[0].rope
    table["partial_rotary_factor"] = 1.0 if rope is None else rope.dim / c.head_dim
    return table


FAMILY = Family(
    name="phi",
    model_types=("phi",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **{name: source for name, source in SOURCES.items() if not name.endswith(("mlp_norm", "mlp.gate"))},
        "blocks.{i}.attn.out": Source("layers.{i}.self_attn.dense"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.fc1"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.fc2"),
        "norm": Source("final_layernorm"),
    },
    ignored=BUFFERS,
    harmless={
        **harmless("the Python code beside the checkpoint is an older copy of transformers' own", "auto_map"),
        **fixed("pygpt has no LayerNorm of queries and keys", qk_layernorm=False),
    },
    gguf=Gguf(
        architecture="phi2",
        sources={name: source for name, source in GGUF_SOURCES.items() if not name.endswith(("mlp_norm", "mlp.gate"))},
    ),
)
