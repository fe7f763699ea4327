"""Llama (Touvron et al. 2023, arXiv:2302.13971; arXiv:2407.21783) and what shares its shape, such as SmolLM2: RMSNorm,
SwiGLU, rotary positions, grouped-query attention.

Names and keys are those of Hugging Face transformers' LlamaForCausalLM and of llama.cpp's GGUF architecture "llama".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import ACTIVATION_NAMES, Family, Gguf, Settings, Sizes, Source, token_settings
from pygpt.families.keys import fixed, harmless
from pygpt.families.layers import rope_settings, rotary_embedding, usual_context


def config(s: Settings) -> ModelConfig:
    """config.json of LlamaForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("hidden_size"), s.integer("num_attention_heads"), s.integer("vocab_size")
    if not s.has("head_dim") and n_embd % n_head:
        raise s.error("hidden_size", f"a multiple of {s.name('num_attention_heads')} ({n_head})")
    head_dim = s.integer("head_dim", n_embd // n_head)
    n_layer, n_ctx = s.integer("num_hidden_layers"), s.integer("max_position_embeddings")
    rope = rotary_embedding(s, head_dim, n_ctx)
    s.require("rope_interleaved", False, "false: Llama turns the values i and i + head_dim / 2 of a head together")
    layer = LayerConfig(attn_scale=head_dim**-0.5, rope=rope)
    attention_bias, bos = s.flag("attention_bias", False), s.token_ids("bos_token_id", n_vocab)
    s.require("max_sequence_length", n_ctx, f"max_position_embeddings ({n_ctx})")
    window, kinds = s.get("sliding_window"), s.get("layer_types")
    if window is not None and not (isinstance(window, int) and window >= n_ctx):
        raise s.error("sliding_window", f"null, or no less than max_position_embeddings ({n_ctx})")
    if kinds is not None and not (isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)):
        raise s.error("layer_types", "a list of 'full_attention'")
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=usual_context(n_ctx, rope),
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
        layers=layer.repeated(n_layer),
        tied_head=s.flag("tie_word_embeddings", False),
        bos_id=bos[0] if bos else None,
        eos_ids=s.token_ids("eos_token_id", n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
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
    if (rope := c.layers[0].rope) is not None:
        table |= rope_settings(rope, c.n_ctx)
    return table


def new(sizes: Sizes) -> dict[str, object]:
    """A new model, tied. Its gated MLP is 8/3 n_embd wide, to the next multiple of 16: as many parameters as 4 n_embd
    without the gate."""
    if sizes.head_dim % 2:
        raise ValueError(f"rotary positions need an even width of a head, not {sizes.head_dim}")
    return {
        "vocab_size": sizes.n_vocab,
        "max_position_embeddings": sizes.n_ctx,
        "hidden_size": sizes.n_embd,
        "intermediate_size": -(-8 * sizes.n_embd // 48) * 16,
        "num_hidden_layers": sizes.n_layer,
        "num_attention_heads": sizes.n_head,
        "num_key_value_heads": sizes.n_kv_head,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": sizes.bos_id,
        "eos_token_id": sizes.eos_id,
    }


FAMILY = Family(
    name="llama",
    model_types=("llama",),
    config=config,
    settings=settings,
    new=new,
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
    harmless={
        **harmless("it cuts products into slices, which add up to the same", "pretraining_tp"),
        **fixed("written by the trainer of SmolLM2", is_llama_config=True),
        **fixed("a position sees all before it", use_sliding_window=False),
    },
    gguf=Gguf(
        architecture="llama",
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
