"""BLOOM (BigScience 2022, arXiv:2211.05100): ALiBi for positions, a norm on the embeddings, q, k and v fused head by
head; the rest is GPT-2's.

Names and keys are those of Hugging Face transformers' BloomForCausalLM and of llama.cpp's GGUF architecture "bloom".
"""

from __future__ import annotations

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
from pygpt.families.keys import fixed, harmless


def config(s: Settings) -> ModelConfig:
    """config.json of BloomForCausalLM, in which some sizes have two names. Only files of the first release say how long
    the texts of the training were, 2048 tokens for all of them."""
    n_embd, n_head, n_layer = (
        first if s.has(first) or not s.has(second) else second
        for first, second in (
            ("hidden_size", "n_embed"), ("n_head", "num_attention_heads"), ("n_layer", "num_hidden_layers"),
        )
    )  # fmt: skip
    width, n_vocab = s.integer(n_embd), s.integer("vocab_size")
    for key, other in (("n_embed", n_embd), ("num_attention_heads", n_head), ("num_hidden_layers", n_layer)):
        s.require(key, s.integer(other), f"{s.integer(other)}, as {s.name(other)} is")
    s.require("n_inner", 4 * width, f"{4 * width}: the MLP is 4 times as wide as the rest in BLOOM")
    head_dim = divided_width(s, n_embd, n_head)
    layer = LayerConfig(attn_scale=head_dim**-0.5, alibi_slopes=alibi_slopes(s.integer(n_head)))
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("seq_length", 2048),
        n_embd=width,
        n_head=s.integer(n_head),
        n_kv_head=s.integer(n_head),
        head_dim=head_dim,
        n_inner=4 * width,
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation="gelu_tanh",
        gated_mlp=False,
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        learned_positions=False,
        layers=layer.repeated(s.integer(n_layer)),
        tied_head=s.flag("tie_word_embeddings", True),
        embed_norm=True,
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return {
        "model_type": "bloom",
        "architectures": ["BloomForCausalLM"],
        "vocab_size": c.n_vocab,
        "seq_length": c.n_ctx,
        "hidden_size": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


FAMILY = Family(
    name="bloom",
    model_types=("bloom",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("word_embeddings"),
        "embed_norm": Source("word_embeddings_layernorm"),
        "blocks.{i}.attn_norm": Source("h.{i}.input_layernorm"),
        **fused_qkv("h.{i}.self_attention.query_key_value", groups="n_kv_head"),
        "blocks.{i}.attn.out": Source("h.{i}.self_attention.dense"),
        "blocks.{i}.mlp_norm": Source("h.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.dense_h_to_4h"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.dense_4h_to_h"),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    ignored=(),
    harmless={
        **harmless("how the sums were cut up in training, which leaves them as they are", "pretraining_tp",
            "slow_but_exact"),
        **harmless(
            "of the program that trained it",
            "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "offset_alibi",
            "skip_bias_add", "skip_bias_add_qkv",
        ),
        **fixed("what a branch adds to is what came before its norm", apply_residual_connection_post_layernorm=False),
    },
    gguf=Gguf(
        architecture="bloom",
        keys={"seq_length": "context_length"},
        sources={**GGUF_FUSED, "embed_norm": Source("token_embd_norm")},
    ),
)  # fmt: skip
