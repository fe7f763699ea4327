"""GPTBigCode: StarCoder and SantaCoder (Li et al. 2023, arXiv:2305.06161), GPT-2 with one key/value head for all.

Names and keys are those of Hugging Face transformers' GPTBigCodeForCausalLM and of llama.cpp's GGUF architecture
"starcoder", which has the multi-query form alone.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    Family,
    Gguf,
    Settings,
    Source,
    divided_width,
    fused_qkv,
)
from pygpt.families.decoder import GGUF_FUSED
from pygpt.families.gpt import gpt, gpt_keys
from pygpt.families.keys import harmless


def config(s: Settings) -> ModelConfig:
    """config.json of GPTBigCodeForCausalLM."""
    head_dim, n_kv_head = (
        divided_width(s, "n_embd", "n_head"),
        1 if s.flag("multi_query", True) else s.integer("n_head"),
    )
    s.require("num_key_value_heads", n_kv_head, f"{n_kv_head}, as multi_query says")
    scale = head_dim**-0.5 if s.flag("scale_attn_weights", True) else 1.0
    return gpt(
        s,
        LayerConfig(attn_scale=scale).repeated(s.integer("n_layer")),
        n_kv_head=n_kv_head,
        activation=s.activation("activation_function", "gelu_pytorch_tanh"),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return gpt_keys(
        c,
        "gpt_bigcode",
        "GPTBigCodeForCausalLM",
        multi_query=c.n_kv_head < c.n_head,
        scale_attn_weights=c.layers[0].attn_scale == c.head_dim**-0.5,
    )


FAMILY = Family(
    name="gpt_bigcode",
    model_types=("gpt_bigcode",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "pos": Source("wpe"),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
        **fused_qkv("h.{i}.attn.c_attn", groups="n_kv_head"),
        "blocks.{i}.attn.out": Source("h.{i}.attn.c_proj"),
        "blocks.{i}.mlp_norm": Source("h.{i}.ln_2"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.c_fc"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.c_proj"),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)", "bias"),
    harmless={
        **harmless(
            "it asks for float32, in which pygpt computes anyway",
            "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32",
        ),
        **harmless(
            "of the program that it was first run by",
            "inference_runner", "validate_runner_input", "pre_allocate_kv_cache", "pad_key_length",
            "max_sequence_length", "max_batch_size",
        ),
    },
    gguf=Gguf(
        architecture="starcoder",
        sources={**GGUF_FUSED, "pos": Source("position_embd")},
    ),
)  # fmt: skip
