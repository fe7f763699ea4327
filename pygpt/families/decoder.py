"""What the families of Llama's kind have alike: RMSNorm, a gated MLP, rotary positions, grouped-query attention; the
keys that say it, and the names of the tensors, as Hugging Face transformers and llama.cpp write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pygpt.config import MAX_LAYERS, LayerConfig, ModelConfig, Rope
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Settings,
    Source,
    divided_width,
    fused_qkv,
    special_tokens,
    token_settings,
)
from pygpt.families.layers import rope_settings, rotary_embedding, usual_context


def head_width(s: Settings) -> int:
    """The width of a head: `head_dim`, or what the heads share of the model's."""
    return s.integer("head_dim") if s.has("head_dim") else divided_width(s, "hidden_size", "num_attention_heads")


def rope_of(s: Settings, **options: Any) -> Rope:
    """The rotary positions; options as `rotary_embedding` has them."""
    return rotary_embedding(s, head_width(s), s.integer("max_position_embeddings"), **options)


def layer_count(s: Settings) -> int:
    """The number of layers, of which lists can be made."""
    n_layer = s.integer("num_hidden_layers")
    if n_layer > MAX_LAYERS:
        raise s.error("num_hidden_layers", f"at most {MAX_LAYERS}")
    return n_layer


def decoder(s: Settings, layers: Iterable[LayerConfig], **fields: Any) -> ModelConfig:
    """The model of these layers. `fields` are those of `ModelConfig` that differ from what Llama's kind has alike."""
    layers = tuple(layers)
    n_vocab, n_head, n_ctx = (
        s.integer(key) for key in ("vocab_size", "num_attention_heads", "max_position_embeddings")
    )
    ropes = {layer.rope for layer in layers if layer.rope is not None}
    common: dict[str, Any] = {
        "n_vocab": n_vocab,
        "n_ctx": min((usual_context(n_ctx, rope) for rope in ropes), default=n_ctx),
        "n_embd": s.integer("hidden_size"),
        "n_head": n_head,
        "n_kv_head": s.integer("num_key_value_heads", n_head),
        "head_dim": head_width(s),
        "n_inner": s.integer("intermediate_size"),
        "norm": "rms_norm",
        "norm_eps": None if "norm_eps" in fields else s.number("rms_norm_eps"),
        "activation": None if "activation" in fields else s.activation("hidden_act", "silu"),
        "gated_mlp": True,
        "qkv_bias": False,
        "attn_out_bias": False,
        "mlp_bias": False,
        "learned_positions": False,
        "layers": layers,
        "tied_head": s.flag("tie_word_embeddings", False),
        **special_tokens(s, n_vocab),
    }
    return ModelConfig(**{**common, **fields})


def attention_bias(s: Settings) -> dict[str, bool]:
    """One key for the biases of q, k, v and the output."""
    bias = s.flag("attention_bias", False)
    return {"qkv_bias": bias, "attn_out_bias": bias}


def undo(f: Callable[[float], float], y: float, near: float) -> float:
    """The x for which f(x) is y, which is `near` but for rounding; of several the roundest."""
    return next((x for x in (round(near), round(near, 6), round(near, 12)) if x > 0 and f(x) == y), near)


def decoder_settings(
    c: ModelConfig, model_type: str, architecture: str, norm_eps: str = "rms_norm_eps", /, **more: object
) -> dict[str, object]:
    """The inverse of `decoder`; `norm_eps` is the family's key for it, `more` are keys of its own."""
    rope = next((layer.rope for layer in c.layers if layer.rope is not None), None)
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "intermediate_size": c.n_inner,
        "hidden_act": ACTIVATION_NAMES.get(c.activation),
        norm_eps: c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
        **({} if rope is None else rope_settings(rope, c.n_ctx)),
        **more,
    }


SOURCES = {
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
}
"""Under the prefix "model."."""

UNGATED_SOURCES = {module: source for module, source in SOURCES.items() if not module.endswith("gate")}

QK_NORMS = {f"blocks.{{i}}.attn.{x}_norm": Source(f"layers.{{i}}.self_attn.{x}_norm") for x in "qk"}

GGUF_SOURCES = {
    "embed": Source("token_embd"),
    "blocks.{i}.attn_norm": Source("blk.{i}.attn_norm"),
    "blocks.{i}.attn.q": Source("blk.{i}.attn_q"),
    "blocks.{i}.attn.k": Source("blk.{i}.attn_k"),
    "blocks.{i}.attn.v": Source("blk.{i}.attn_v"),
    "blocks.{i}.attn.out": Source("blk.{i}.attn_output"),
    "blocks.{i}.mlp_norm": Source("blk.{i}.ffn_norm"),
    "blocks.{i}.mlp.gate": Source("blk.{i}.ffn_gate"),
    "blocks.{i}.mlp.up": Source("blk.{i}.ffn_up"),
    "blocks.{i}.mlp.down": Source("blk.{i}.ffn_down"),
    "norm": Source("output_norm"),
    "head": Source("output"),
}

GGUF_UNGATED = {module: source for module, source in GGUF_SOURCES.items() if not module.endswith("gate")}

GGUF_FUSED = {**GGUF_UNGATED, **fused_qkv("blk.{i}.attn_qkv")}
"""GPT-2's block, where llama.cpp's converter has put all of q before all of k before all of v."""

GGUF_INTERLEAVED = {
    **GGUF_SOURCES,
    **{f"blocks.{{i}}.attn.{x}": Source(f"blk.{{i}}.attn_{x}", interleaved=True) for x in "qk"},
}
"""As llama.cpp's converter writes "llama" and what it derives from it."""

GGUF_QK_NORMS = {f"blocks.{{i}}.attn.{x}_norm": Source(f"blk.{{i}}.attn_{x}_norm") for x in "qk"}

BUFFERS = (r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",)
"""Stored names without parameters."""
