"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): Llama's attention, with biases and a window in every layer, in
GPT-2's block.

Names and keys are those of Hugging Face transformers' Starcoder2ForCausalLM and of llama.cpp's GGUF architecture
"starcoder2", which knows no window.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_UNGATED,
    UNGATED_SOURCES,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.keys import fixed, harmless


def config(s: Settings) -> ModelConfig:
    """config.json of Starcoder2ForCausalLM."""
    bias, norm_eps = s.flag("use_bias", True), s.number("norm_epsilon", 1e-5)
    s.require("layer_norm_epsilon", norm_eps, f"{norm_eps}, as norm_epsilon is")
    window = s.integer("sliding_window") if s.has("sliding_window") else None
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s), window=window)
    return decoder(
        s,
        layer.repeated(layer_count(s)),
        n_kv_head=s.integer("num_key_value_heads", 2),
        norm="layer_norm",
        norm_eps=norm_eps,
        activation=s.activation("hidden_act", "gelu_pytorch_tanh"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        tied_head=s.flag("tie_word_embeddings", True),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    own = {"sliding_window": c.layers[0].window, "use_bias": c.qkv_bias}
    return decoder_settings(c, "starcoder2", "Starcoder2ForCausalLM", "norm_epsilon", **own)


FAMILY = Family(
    name="starcoder2",
    model_types=("starcoder2",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **UNGATED_SOURCES,
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.c_fc"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.c_proj"),
    },
    ignored=BUFFERS,
    harmless={
        **harmless("of training alone", "residual_dropout", "embedding_dropout"),
        **harmless("hidden_act says it, whatever this key of the first StarCoder does", "activation_function"),
        **harmless(
            "it asks for float32, in which pygpt computes anyway",
            "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32",
        ),
        **fixed("StarCoder2 always does so", scale_attn_weights=True, mlp_type="default", norm_type="layer_norm"),
    },
    gguf=Gguf(architecture="starcoder2", sources=GGUF_UNGATED),
)  # fmt: skip
