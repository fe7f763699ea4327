"""Llama (Touvron et al. 2023, arXiv:2302.13971; arXiv:2407.21783) and what shares its shape, such as SmolLM2: RMSNorm,
SwiGLU, rotary positions, grouped-query attention.

Names and keys are those of Hugging Face transformers' LlamaForCausalLM and of llama.cpp's GGUF architecture "llama".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Sizes
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_INTERLEAVED,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.keys import fixed, harmless


def config(s: Settings) -> ModelConfig:
    """config.json of LlamaForCausalLM, whose attention has no window, whatever its file says of one."""
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s))
    s.require("rope_interleaved", False, "false: Llama turns the values i and i + head_dim / 2 of a head together")
    n_ctx = s.integer("max_position_embeddings")
    s.require("max_sequence_length", n_ctx, f"max_position_embeddings ({n_ctx})")
    window, kinds = s.get("sliding_window"), s.get("layer_types")
    if window is not None and not (isinstance(window, int) and window >= n_ctx):
        raise s.error("sliding_window", f"null, or no less than max_position_embeddings ({n_ctx})")
    if kinds is not None and not (isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)):
        raise s.error("layer_types", "a list of 'full_attention'")
    return decoder(s, layer.repeated(layer_count(s)), mlp_bias=s.flag("mlp_bias", False), **attention_bias(s))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "llama", "LlamaForCausalLM", attention_bias=c.qkv_bias, mlp_bias=c.mlp_bias)


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
    sources=SOURCES,
    ignored=BUFFERS,
    harmless={
        **harmless("it cuts products into slices, which add up to the same", "pretraining_tp"),
        **fixed("written by the trainer of SmolLM2", is_llama_config=True),
        **fixed("a position sees all before it", use_sliding_window=False),
    },
    gguf=Gguf(architecture="llama", sources=GGUF_INTERLEAVED),
)
