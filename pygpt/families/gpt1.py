"""GPT-1 (Radford et al. 2018): LayerNorm after each half of the block, and none at the end.

Names and keys are those of Hugging Face transformers' OpenAIGPTLMHeadModel. GGUF has no such architecture.
"""

from __future__ import annotations

from pygpt.config import Activation, LayerConfig, ModelConfig
from pygpt.families.base import (
    Family,
    Settings,
    Sizes,
    Source,
    divided_width,
    fused_qkv,
    gpt_settings,
    special_tokens,
    token_settings,
)
from pygpt.families.keys import fixed, harmless

AFN: dict[str, Activation] = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
"""What the names in config.json mean here: "gelu" is the tanh form."""


def config(s: Settings) -> ModelConfig:
    """config.json of OpenAIGPTLMHeadModel; the MLP is always 4 n_embd wide."""
    n_embd, n_head, n_vocab = s.integer("n_embd"), s.integer("n_head"), s.integer("vocab_size")
    head_dim, n_ctx = divided_width(s, "n_embd", "n_head"), s.integer("n_positions")
    s.require("n_ctx", n_ctx, f"n_positions ({n_ctx})")
    s.require("n_inner", 4 * n_embd, f"4 n_embd ({4 * n_embd}): the MLP is as wide as that in GPT-1")
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=n_ctx,
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=4 * n_embd,
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("afn", "gelu", AFN),
        gated_mlp=False,
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        learned_positions=True,
        layers=LayerConfig(attn_scale=head_dim**-0.5).repeated(s.integer("n_layer")),
        tied_head=s.flag("tie_word_embeddings", True),
        norm_placement="after_sum",
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    names = {activation: name for name, activation in reversed(AFN.items())}
    return {
        "model_type": "openai-gpt",
        "architectures": ["OpenAIGPTLMHeadModel"],
        "vocab_size": c.n_vocab,
        "n_positions": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "afn": names.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


def new(sizes: Sizes) -> dict[str, object]:
    """A new model; its MLP is 4 n_embd wide."""
    return gpt_settings(sizes, "gpt1")


FAMILY = Family(
    name="gpt1",
    model_types=("openai-gpt",),
    config=config,
    settings=settings,
    new=new,
    prefix="transformer.",
    sources={
        "embed": Source("tokens_embed"),
        "pos": Source("positions_embed"),
        **fused_qkv("h.{i}.attn.c_attn", transposed=True),
        "blocks.{i}.attn.out": Source("h.{i}.attn.c_proj", transposed=True),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.c_fc", transposed=True),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.c_proj", transposed=True),
        "blocks.{i}.mlp_norm": Source("h.{i}.ln_2"),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.bias", "position_ids"),
    harmless={
        **harmless("of a vocabulary that grew, before the key vocab_size counted all", "predict_special_tokens"),
        **fixed("pygpt reads vocab_size as the number of all tokens", n_special=0),
    },
    gguf=None,
)
