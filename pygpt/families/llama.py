"""Llama (Touvron et al. 2023, arXiv:2302.13971; arXiv:2407.21783) and what shares its shape, such as SmolLM2: RMSNorm,
SwiGLU, rotary positions, grouped-query attention.

Names and keys are those of Hugging Face transformers' LlamaForCausalLM and of llama.cpp's GGUF architecture "llama".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.families.base import ACTIVATION_NAMES, Family, Gguf, Settings, Source, token_settings


def rope_scaling(s: Settings | None) -> RopeScaling | None:
    """The table `rope_scaling`, or `rope_parameters` since transformers v5; older files name the kind "type"."""
    if s is None:
        return None
    key = "rope_type" if s.has("rope_type") else "type"
    kind = s.values.get(key) or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=s.number("factor"))
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=s.number("factor"),
            low_freq_factor=s.number("low_freq_factor"),
            high_freq_factor=s.number("high_freq_factor"),
            original_n_ctx=s.integer("original_max_position_embeddings"),
        )
    raise s.error(key, "one of default, linear, llama3")


def config(s: Settings) -> ModelConfig:
    """config.json of LlamaForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    if not s.has("head_dim") and n_embd % n_head:
        raise s.error("hidden_size", f"a multiple of {s.name('num_attention_heads')} ({n_head})")
    head_dim = s.integer("head_dim", n_embd // n_head)
    rope = s.table("rope_parameters")  # transformers v5; v4 has rope_theta and rope_scaling at the top
    theta = (rope if rope is not None and rope.has("rope_theta") else s).number("rope_theta", 10000.0)
    if rope is not None and rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise rope.error("partial_rotary_factor", "1")
    rotary = Rope(theta=theta, dim=head_dim, scaling=rope_scaling(rope or s.table("rope_scaling")))
    layer = LayerConfig(attn_scale=head_dim**-0.5, rope=rotary)
    attention_bias, bos = s.flag("attention_bias", False), s.token_ids("bos_token_id", n_vocab)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("max_position_embeddings"),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=s.integer("num_key_value_heads", n_head),
        head_dim=head_dim,
        n_inner=s.integer("intermediate_size"),
        norm="rms_norm",
        norm_eps=s.number("rms_norm_eps"),
        activation=s.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=attention_bias,
        attn_out_bias=attention_bias,
        mlp_bias=s.flag("mlp_bias", False),
        learned_positions=False,
        layers=layer.repeated(s.integer("num_hidden_layers")),
        tied_head=s.flag("tie_word_embeddings", False),
        bos_id=bos[0] if bos else None,
        eos_ids=s.token_ids("eos_token_id", n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`, with the rotary settings as transformers v4 spells them, which v5 reads too."""
    table: dict[str, object] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "intermediate_size": c.n_inner,
        "hidden_act": ACTIVATION_NAMES[c.activation],
        "rms_norm_eps": c.norm_eps,
        "attention_bias": c.qkv_bias,
        "mlp_bias": c.mlp_bias,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }
    if (rotary := c.layers[0].rope) is not None:
        table["rope_theta"] = rotary.theta
        if (scaling := rotary.scaling) is not None:
            schedule = {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_n_ctx,
            }
            kind = {"rope_type": scaling.kind, "factor": scaling.factor}
            table["rope_scaling"] = kind | (schedule if scaling.kind == "llama3" else {})
    return table


FAMILY = Family(
    model_types=("llama",),
    config=config,
    settings=settings,
    prefix="model.",
    sources={
        "embed": Source("embed_tokens"),
        "blocks.{i}.attn_norm": Source("layers.{i}.input_layernorm"),
        "blocks.{i}.attn.q": Source("layers.{i}.self_attn.q_proj"),
        "blocks.{i}.attn.k": Source("layers.{i}.self_attn.k_proj"),
        "blocks.{i}.attn.v": Source("layers.{i}.self_attn.v_proj"),
        "blocks.{i}.attn.out": Source("layers.{i}.self_attn.o_proj"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.gate": Source("layers.{i}.mlp.gate_proj"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.up_proj"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.down_proj"),
        "norm": Source("norm"),
        "head": Source("lm_head"),
    },
    ignored=(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    gguf=Gguf(
        architecture="llama",
        keys={
            "vocab_size": "vocab_size",
            "max_position_embeddings": "context_length",
            "hidden_size": "embedding_length",
            "intermediate_size": "feed_forward_length",
            "num_hidden_layers": "block_count",
            "num_attention_heads": "attention.head_count",
            "num_key_value_heads": "attention.head_count_kv",
            "head_dim": "attention.key_length",
            "rms_norm_eps": "attention.layer_norm_rms_epsilon",
            "rope_theta": "rope.freq_base",
        },
        sources={
            "embed": Source("token_embd"),
            "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm"),
            "blocks.{i}.attn.q": Source("blk.{i}.attn_q", interleaved=True),
            "blocks.{i}.attn.k": Source("blk.{i}.attn_k", interleaved=True),
            "blocks.{i}.attn.v": Source("blk.{i}.attn_v"),
            "blocks.{i}.attn.out": Source("blk.{i}.attn_output"),
            "blocks.{i}.mlp_norm": Source("blk.{i}.ffn_norm"),
            "blocks.{i}.mlp.gate": Source("blk.{i}.ffn_gate"),
            "blocks.{i}.mlp.up": Source("blk.{i}.ffn_up"),
            "blocks.{i}.mlp.down": Source("blk.{i}.ffn_down"),
            "norm": Source("output_norm"),
            "head": Source("output"),
        },
    ),
)
