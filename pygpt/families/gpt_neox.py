"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia (Biderman et al. 2023, arXiv:2304.01373): attention and MLP
in parallel, each with a norm of its own, or in sequence; rotary positions on a part of each head; q, k and v fused head
by head.

Names and keys are those of Hugging Face transformers' GPTNeoXForCausalLM and of llama.cpp's GGUF "gptneox".
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
from pygpt.families.layers import rope_settings, rotary_embedding, usual_context


def config(s: Settings) -> ModelConfig:
    """config.json of GPTNeoXForCausalLM; version 4 has names of its own for the rotary settings."""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    head_dim, n_ctx = divided_width(s, "hidden_size", "num_attention_heads"), s.integer("max_position_embeddings")
    older = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    rope = rotary_embedding(s, head_dim, n_ctx, partial=0.25, older=older)
    bias = s.flag("attention_bias", True)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=usual_context(n_ctx, rope),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=s.integer("intermediate_size"),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_eps", 1e-5),
        activation=s.activation("hidden_act", "gelu"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=True,
        learned_positions=False,
        layers=LayerConfig(attn_scale=head_dim**-0.5, rope=rope).repeated(s.integer("num_hidden_layers")),
        tied_head=s.flag("tie_word_embeddings", False),
        branches="parallel" if s.flag("use_parallel_residual", True) else "sequential",
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`, with the rotary settings as version 4 spells them, which version 5 reads too."""
    table: dict[str, object] = {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "intermediate_size": c.n_inner,
        "hidden_act": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_eps": c.norm_eps,
        "attention_bias": c.qkv_bias,
        "use_parallel_residual": c.branches == "parallel",
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }
    if (rope := c.layers[0].rope) is not None:
        table |= rope_settings(rope, c.n_ctx)
        table["rotary_emb_base"] = table.pop("rope_theta")
        table["rotary_pct"] = rope.dim / c.head_dim
    return table


FAMILY = Family(
    name="gpt_neox",
    model_types=("gpt_neox",),
    config=config,
    settings=settings,
    new=None,
    prefix="gpt_neox.",
    sources={
        "embed": Source("embed_in"),
        "blocks.{i}.attn_norm": Source("layers.{i}.input_layernorm"),
        **fused_qkv("layers.{i}.attention.query_key_value", groups="n_kv_head"),
        "blocks.{i}.attn.out": Source("layers.{i}.attention.dense"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.dense_h_to_4h"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.dense_4h_to_h"),
        "norm": Source("final_layer_norm"),
        "head": Source("embed_out", also="lm_head"),
    },
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    harmless={},
    gguf=Gguf(
        architecture="gptneox",
        sources={
            "embed": Source("token_embd"),
            "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm"),
            **fused_qkv("blk.{i}.attn_qkv"),
            "blocks.{i}.attn.out": Source("blk.{i}.attn_output"),
            "blocks.{i}.mlp_norm": Source("blk.{i}.ffn_norm"),
            "blocks.{i}.mlp.up": Source("blk.{i}.ffn_up"),
            "blocks.{i}.mlp.down": Source("blk.{i}.ffn_down"),
            "norm": Source("output_norm"),
            "head": Source("output"),
        },
    ),
)
