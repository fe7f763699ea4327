"""GPTBigCode: StarCoder and SantaCoder (Li et al. 2023, arXiv:2305.06161), GPT-2 with one key/value head for all.

Names and keys are those of Hugging Face transformers' GPTBigCodeForCausalLM and of llama.cpp's GGUF architecture
"starcoder", which has the multi-query form alone.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Family,
    Gguf,
    Settings,
    Source,
    divided_width,
    fused_qkv,
    special_tokens,
    token_settings,
)
from pygpt.families.decoder import GGUF_FUSED
from pygpt.families.keys import harmless


def config(s: Settings) -> ModelConfig:
    """config.json of GPTBigCodeForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("n_embd"), s.integer("n_head"), s.integer("vocab_size")
    head_dim, n_kv_head = divided_width(s, "n_embd", "n_head"), 1 if s.flag("multi_query", True) else n_head
    s.require("num_key_value_heads", n_kv_head, f"{n_kv_head}, as multi_query says")
    scale = head_dim**-0.5 if s.flag("scale_attn_weights", True) else 1.0
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("n_positions"),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=head_dim,
        n_inner=s.integer("n_inner", 4 * n_embd),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("activation_function", "gelu_pytorch_tanh"),
        gated_mlp=False,
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        learned_positions=True,
        layers=LayerConfig(attn_scale=scale).repeated(s.integer("n_layer")),
        tied_head=s.flag("tie_word_embeddings", True),
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return {
        "model_type": "gpt_bigcode",
        "architectures": ["GPTBigCodeForCausalLM"],
        "vocab_size": c.n_vocab,
        "n_positions": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.n_inner,
        "multi_query": c.n_kv_head < c.n_head,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "scale_attn_weights": c.layers[0].attn_scale == c.head_dim**-0.5,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


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
