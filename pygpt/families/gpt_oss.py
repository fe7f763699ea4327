"""gpt-oss (OpenAI 2025, arXiv:2508.10925): routed experts in MXFP4, a window in every second layer, sinks of attention.

Names and keys are those of Hugging Face transformers' GptOssForCausalLM and of llama.cpp's architecture "gpt-oss".
"""

from __future__ import annotations

from pygpt.config import Experts, LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
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
from pygpt.families.layers import sliding_layers, window_settings, windows
from pygpt.families.routed import GGUF_EXPERTS, HARMLESS, expert_count, experts_of

_YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}


def config(s: Settings) -> ModelConfig:
    """config.json of GptOssForCausalLM. Every second layer sees all, from the second on, where layer_types is left
    out."""
    n_layer, inner = layer_count(s), s.integer("intermediate_size")
    used = s.integer("num_experts_per_tok", 4)
    s.fill(attention_bias=True, head_dim=64, sliding_window=128)
    if not s.has("rope_parameters"):
        s.fill(rope_scaling=_YARN)
    rope = rope_of(s, theta=150000.0)
    if rope.scaling is not None:
        s.require("initial_context_length", rope.scaling.original_n_ctx)
    for key, value in (("experts_per_token", used), ("moe_intermediate_size", inner), ("hidden_act", "silu")):
        s.require(key, value)
    s.require("swiglu_limit", 7)
    s.require("swiglu_alpha", 1.702)
    if (quantization := s.table("quantization_config")) is not None:
        quantization.require("quant_method", "mxfp4")
        quantization.has("modules_to_not_convert")  # the types of the tensors say it
    experts = Experts(n_expert=expert_count(s, 128), n_used=used, n_inner=inner, router_bias=True)
    scale, slides = head_width(s) ** -0.5, sliding_layers(s, [i % 2 == 0 for i in range(n_layer)])
    layers = [
        LayerConfig(attn_scale=scale, rope=rope, window=window, sinks=True, experts=experts)
        for window in windows(s, slides)
    ]
    return decoder(s, layers, activation="swiglu_clamped", mlp_bias=True, **attention_bias(s))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    e, rope = experts_of(c), c.layers[0].rope
    plain = {} if rope is None or rope.scaling is not None else {"rope_scaling": {"rope_type": "default"}}
    return decoder_settings(
        c,
        "gpt_oss",
        "GptOssForCausalLM",
        hidden_act="silu",
        attention_bias=c.qkv_bias,
        num_local_experts=e and e.n_expert,
        num_experts_per_tok=e and e.n_used,
        **window_settings(c),
        **plain,
    )


def _experts(end: str, transposed: bool = False) -> dict[str, Source]:
    """Rows of gates and of what they gate alternate, in a tensor of all experts."""
    module = "layers.{i}.mlp.experts"
    ends = {"weight": end, "bias": "_bias"}
    both = Source(f"{module}.gate_up_proj", groups="n_inner", ends=ends, transposed=transposed)
    return {
        "blocks.{i}.mlp.experts.{e}.gate": both,
        "blocks.{i}.mlp.experts.{e}.up": both,
        "blocks.{i}.mlp.experts.{e}.down": Source(f"{module}.down_proj", ends=ends, transposed=transposed),
    }


FAMILY = Family(
    name="gpt_oss",
    model_types=("gpt_oss",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        "blocks.{i}.attn": Source("layers.{i}.self_attn"),
        "blocks.{i}.mlp.router": Source("layers.{i}.mlp.router"),
        **_experts("", transposed=True),
    },
    ignored=BUFFERS,
    harmless=HARMLESS,
    gguf=Gguf(
        architecture="gpt-oss",
        sources={
            **GGUF_SOURCES,
            "blocks.{i}.attn": Source("blk.{i}.attn", ends={"sinks": "_sinks.weight"}),
            "blocks.{i}.mlp_norm": Source("blk.{i}.post_attention_norm"),
            **GGUF_EXPERTS,
        },
        unsaid=lambda _, __: {"rope_scaling.truncate": False},  # as the original does, and llama.cpp does not
    ),
    layouts=(_experts("_blocks"),),
)
