"""Falcon (Almazrouei et al. 2023, arXiv:2311.16867) in its three forms: 7B with one key/value head, and one norm for
attention and MLP in parallel; 40B, 180B and 11B ("new_decoder_architecture") with groups of heads and two norms or one;
RW with ALiBi and the two branches in sequence.

Names and keys are those of Hugging Face transformers' FalconForCausalLM and of llama.cpp's GGUF architecture "falcon",
which has no RW.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from pygpt.config import Branches, LayerConfig, ModelConfig
from pygpt.families.base import (
    ACTIVATION_NAMES,
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
from pygpt.families.keys import fixed, harmless
from pygpt.families.layers import rope_settings, rotary_embedding, usual_context


def bfloat16(x: float) -> float:
    """The nearest number of bfloat16, of two equally near the even one."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    (rounded,) = struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))
    return float(rounded)


def layout(s: Settings, n_head: int) -> tuple[Branches, int]:
    """How the branches of a block stand to each other, and the number of key/value heads."""
    parallel, many = s.flag("parallel_attn", True), not s.flag("multi_query", True)
    if s.flag("new_decoder_architecture", False):
        if not parallel:
            raise s.error("parallel_attn", "true, as new_decoder_architecture is")
        norms = s.integer("num_ln_in_parallel_attn", 2)
        if norms > 2:
            raise s.error("num_ln_in_parallel_attn", "1 or 2")
        return "parallel" if norms == 2 else "parallel_one_norm", s.integer("num_kv_heads", n_head)
    s.require("num_ln_in_parallel_attn", 1, "1 or absent, as new_decoder_architecture is not true")
    s.get("num_kv_heads")  # which does not count where there is one
    if many:
        s.require("num_kv_heads", n_head, f"num_attention_heads ({n_head}), as multi_query is not true")
    return "parallel_one_norm" if parallel else "sequential", n_head if many else 1


def config(s: Settings) -> ModelConfig:
    """config.json of FalconForCausalLM. With ALiBi what is scaled by 1 / sqrt(head_dim) is the sum of score and slope,
    and the class has the slopes in bfloat16. (Their products with the positions, too, which is left out here.)"""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    head_dim, n_ctx = divided_width(s, "hidden_size", "num_attention_heads"), s.integer("max_position_embeddings", 2048)
    bias = s.flag("bias", False)
    branches, n_kv_head = layout(s, n_head)
    scale, rope = head_dim**-0.5, rotary_embedding(s, head_dim, n_ctx)
    layer = LayerConfig(attn_scale=scale, rope=rope)
    if s.flag("alibi", False):
        layer = LayerConfig(attn_scale=scale, alibi_slopes=tuple(scale * bfloat16(x) for x in alibi_slopes(n_head)))
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=n_ctx if layer.rope is None else usual_context(n_ctx, rope),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=head_dim,
        n_inner=s.integer("ffn_hidden_size", 4 * n_embd),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("activation", "gelu"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        learned_positions=False,
        layers=layer.repeated(s.integer("num_hidden_layers")),
        tied_head=s.flag("tie_word_embeddings", True),
        branches=branches,
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    new = c.branches == "parallel" or (c.branches == "parallel_one_norm" and 1 < c.n_kv_head < c.n_head)
    norms = 2 if c.branches == "parallel" else 1
    table: dict[str, object] = {
        "model_type": "falcon",
        "architectures": ["FalconForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_kv_heads": c.n_kv_head,
        "ffn_hidden_size": c.n_inner,
        "activation": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "alibi": bool(c.layers[0].alibi_slopes),
        "bias": c.qkv_bias,
        "multi_query": c.n_kv_head == 1,
        "new_decoder_architecture": new,
        "num_ln_in_parallel_attn": norms if new else None,
        "parallel_attn": c.branches != "sequential",
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }
    return table | (rope_settings(c.layers[0].rope, c.n_ctx) if c.layers[0].rope is not None else {})


def variant(c: ModelConfig) -> dict[str, Source]:
    """Two norms beside each other have names of their own."""
    if c.branches != "parallel":
        return {}
    return {"blocks.{i}.attn_norm": Source("h.{i}.ln_attn"), "blocks.{i}.mlp_norm": Source("h.{i}.ln_mlp")}


def unsaid(s: Settings, names: Collection[str]) -> dict[str, object]:
    """What GGUF leaves to the tensors: 7B is the new architecture with one key/value head and one norm."""
    norms = 2 if "blk.0.attn_norm_2.weight" in names else 1
    return {"new_decoder_architecture": True, "num_ln_in_parallel_attn": norms}


FAMILY = Family(
    name="falcon",
    model_types=("falcon",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("word_embeddings"),
        "blocks.{i}.attn_norm": Source("h.{i}.input_layernorm"),
        **fused_qkv("h.{i}.self_attention.query_key_value", groups="n_kv_head"),
        "blocks.{i}.attn.out": Source("h.{i}.self_attention.dense"),
        "blocks.{i}.mlp_norm": Source("h.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.dense_h_to_4h"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.dense_4h_to_h"),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    variant=variant,
    ignored=(r"(h\.\d+\.self_attention\.)?rotary(_emb)?\.inv_freq",),
    harmless={
        **harmless("ffn_hidden_size says it", "ff_factor"),
        **harmless("transformers has this model's code itself", "auto_map"),
        **fixed("what a branch adds to is what came before its norm", apply_residual_connection_post_layernorm=False),
    },
    gguf=Gguf(
        architecture="falcon",
        keys={"num_kv_heads": "attention.head_count_kv", "ffn_hidden_size": "feed_forward_length"},
        unsaid=unsaid,
        sources={
            **GGUF_FUSED,
            "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm_2", also="blk.{i}.attn_norm"),  # one norm: its only name
            "blocks.{i}.mlp_norm": Source("blk.{i}.attn_norm"),
        },
    ),
)
