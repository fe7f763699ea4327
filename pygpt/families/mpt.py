"""MPT (MosaicML 2023, github.com/mosaicml/llm-foundry): ALiBi, LayerNorm without biases, no bias anywhere.

Names and keys are those of Hugging Face transformers' MptForCausalLM and of llama.cpp's GGUF architecture "mpt". The
class knows less than the program that trained these models: what only that one does is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import (
    Family,
    Gguf,
    Settings,
    Source,
    alibi_slopes,
    divided_width,
    fused_qkv,
    special_tokens,
    token_settings,
)
from pygpt.families.decoder import GGUF_FUSED
from pygpt.families.keys import CONFIG, fixed, harmless


def attention(s: Settings, n_head: int, head_dim: int) -> LayerConfig:
    """The table `attn_config`."""
    table = s.table("attn_config") or Settings({}, s.file, prefix="attn_config.")
    table.require("attn_type", "multihead_attention")
    table.require("alibi", True, "true: without ALiBi this model has no positions")
    for key in ("qk_ln", "qk_gn", "prefix_lm", "attn_uses_sequence_id", "rope"):
        table.require(key, False)
    if table.get("clip_qkv") not in (None, 0):
        raise table.error("clip_qkv", "null: pygpt does not clip queries, keys and values")
    table.require("sliding_window_size", -1)
    table.require("kv_n_heads", n_head, f"n_heads ({n_head})")
    for key in ("attn_pdrop", "attn_impl", "model_type"):  # of training; how the same is computed; of the table itself
        table.get(key)
    slopes = alibi_slopes(n_head, table.number("alibi_bias_max", 8))
    return LayerConfig(attn_scale=table.number("softmax_scale", head_dim**-0.5), alibi_slopes=slopes)


def config(s: Settings) -> ModelConfig:
    """config.json of MptForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("d_model"), s.integer("n_heads"), s.integer("vocab_size")
    head_dim = divided_width(s, "d_model", "n_heads")
    logit_scale = n_embd**-0.5 if s.get("logit_scale") == "inv_sqrt_d_model" else s.number("logit_scale", 1.0)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("max_seq_len"),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=s.integer("expansion_ratio", 4) * n_embd,
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation="gelu",
        gated_mlp=False,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=False,
        learned_positions=False,
        layers=attention(s, n_head, head_dim).repeated(s.integer("n_layers")),
        tied_head=s.flag("tie_word_embeddings", True),
        logit_scale=logit_scale,
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`; the first slope says alibi_bias_max (see `alibi_slopes`)."""
    n_head = 1 << (c.n_head - 1).bit_length()
    first = c.layers[0].alibi_slopes[:1] or (0.5,)
    steepest = round(-math.log2(first[0]) * n_head / (1 if n_head == c.n_head else 2))
    return {
        "model_type": "mpt",
        "architectures": ["MptForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_seq_len": c.n_ctx,
        "d_model": c.n_embd,
        "n_heads": c.n_head,
        "n_layers": c.n_layer,
        "expansion_ratio": max(1, c.n_inner // c.n_embd),
        "attn_config": {"alibi": True, "alibi_bias_max": steepest, "softmax_scale": c.layers[0].attn_scale},
        "layer_norm_epsilon": c.norm_eps,
        "logit_scale": c.logit_scale,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


def unsaid(s: Settings, _: Collection[str]) -> dict[str, object]:
    """Without a greatest bias, or with one of 0, there is no ALiBi."""
    table = s.table("attn_config")
    return {"attn_config.alibi": table is not None and table.has("alibi_bias_max")}


FAMILY = Family(
    name="mpt",
    model_types=("mpt",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "blocks.{i}.attn_norm": Source("blocks.{i}.norm_1", zero_bias=True),
        **fused_qkv("blocks.{i}.attn.Wqkv"),
        "blocks.{i}.attn.out": Source("blocks.{i}.attn.out_proj"),
        "blocks.{i}.mlp_norm": Source("blocks.{i}.norm_2", zero_bias=True),
        "blocks.{i}.mlp.up": Source("blocks.{i}.ffn.up_proj"),
        "blocks.{i}.mlp.down": Source("blocks.{i}.ffn.down_proj"),
        "norm": Source("norm_f", zero_bias=True),
        "head": Source("lm_head"),
    },
    ignored=(),
    harmless={
        **{f"attn_config.{key}": known for key, known in CONFIG.items()},  # transformers writes them there as well
        **harmless("of training alone", "resid_pdrop", "emb_pdrop", "init_config", "init_device", "embedding_fraction"),
        **harmless("there are no learned positions beside ALiBi", "learned_pos_emb"),
        **harmless("what people read", "verbose", "tokenizer_name"),
        **harmless("transformers has this model's code itself", "auto_map"),
        **fixed("this class has no biases", no_bias=True),
        **fixed("this class has LayerNorm", norm_type=("low_precision_layernorm", "layernorm")),
    },
    gguf=Gguf(
        architecture="mpt",
        keys={
            "max_seq_len": "context_length",
            "d_model": "embedding_length",
            "n_heads": "attention.head_count",
            "n_layers": "block_count",
        },
        sources={
            **GGUF_FUSED,
            "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm", zero_bias=True),
            "blocks.{i}.mlp_norm": Source("blk.{i}.ffn_norm", zero_bias=True),
            "norm": Source("output_norm", zero_bias=True),
        },
        unsaid=unsaid,
    ),
)
