"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): Llama's attention, with biases and a window in every layer, in
GPT-2's block.

Names and keys are those of Hugging Face transformers' Starcoder2ForCausalLM and of llama.cpp's GGUF architecture
"starcoder2", which knows no window.
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
    special_tokens,
    token_settings,
)
from pygpt.families.keys import fixed, harmless
from pygpt.families.layers import rope_settings, rotary_embedding, usual_context


def config(s: Settings) -> ModelConfig:
    """config.json of Starcoder2ForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    given = s.has("head_dim")
    head_dim = s.integer("head_dim") if given else divided_width(s, "hidden_size", "num_attention_heads")
    n_ctx, bias, norm_eps = (
        s.integer("max_position_embeddings"),
        s.flag("use_bias", True),
        s.number("norm_epsilon", 1e-5),
    )
    s.require("layer_norm_epsilon", norm_eps, f"{norm_eps}, as norm_epsilon is")
    rope = rotary_embedding(s, head_dim, n_ctx)
    window = s.integer("sliding_window") if s.has("sliding_window") else None
    layer = LayerConfig(attn_scale=head_dim**-0.5, rope=rope, window=window)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=usual_context(n_ctx, rope),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=s.integer("num_key_value_heads", 2),
        head_dim=head_dim,
        n_inner=s.integer("intermediate_size"),
        norm="layer_norm",
        norm_eps=norm_eps,
        activation=s.activation("hidden_act", "gelu_pytorch_tanh"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        learned_positions=False,
        layers=layer.repeated(s.integer("num_hidden_layers")),
        tied_head=s.flag("tie_word_embeddings", True),
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    table: dict[str, object] = {
        "model_type": "starcoder2",
        "architectures": ["Starcoder2ForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "intermediate_size": c.n_inner,
        "hidden_act": ACTIVATION_NAMES.get(c.activation),
        "norm_epsilon": c.norm_eps,
        "sliding_window": c.layers[0].window,
        "use_bias": c.qkv_bias,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }
    return table | (rope_settings(c.layers[0].rope, c.n_ctx) if c.layers[0].rope is not None else {})


FAMILY = Family(
    name="starcoder2",
    model_types=("starcoder2",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        "embed": Source("embed_tokens"),
        "blocks.{i}.attn_norm": Source("layers.{i}.input_layernorm"),
        "blocks.{i}.attn.q": Source("layers.{i}.self_attn.q_proj"),
        "blocks.{i}.attn.k": Source("layers.{i}.self_attn.k_proj"),
        "blocks.{i}.attn.v": Source("layers.{i}.self_attn.v_proj"),
        "blocks.{i}.attn.out": Source("layers.{i}.self_attn.o_proj"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.c_fc"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.c_proj"),
        "norm": Source("norm"),
        "head": Source("lm_head"),
    },
    ignored=(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    harmless={
        **harmless("of training alone", "residual_dropout", "embedding_dropout"),
        **harmless("hidden_act says it, whatever this key of the first StarCoder does", "activation_function"),
        **harmless(
            "it asks for float32, in which pygpt computes anyway",
            "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32",
        ),
        **fixed("StarCoder2 always does so", scale_attn_weights=True, mlp_type="default", norm_type="layer_norm"),
    },
    gguf=Gguf(
        architecture="starcoder2",
        sources={
            "embed": Source("token_embd"),
            "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm"),
            "blocks.{i}.attn.q": Source("blk.{i}.attn_q"),
            "blocks.{i}.attn.k": Source("blk.{i}.attn_k"),
            "blocks.{i}.attn.v": Source("blk.{i}.attn_v"),
            "blocks.{i}.attn.out": Source("blk.{i}.attn_output"),
            "blocks.{i}.mlp_norm": Source("blk.{i}.ffn_norm"),
            "blocks.{i}.mlp.up": Source("blk.{i}.ffn_up"),
            "blocks.{i}.mlp.down": Source("blk.{i}.ffn_down"),
            "norm": Source("output_norm"),
            "head": Source("output"),
        },
    ),
)  # fmt: skip
