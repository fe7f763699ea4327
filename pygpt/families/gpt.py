"""What GPT-2 and its nearest kin say alike: LayerNorm, an MLP without a gate, as many key and value heads as heads, and
the keys of config.json for it, as Hugging Face transformers writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import ACTIVATION_NAMES, Settings, divided_width, special_tokens, token_settings


def gpt(s: Settings, layers: Iterable[LayerConfig], **fields: Any) -> ModelConfig:
    """The model of these layers. `fields` are those of `ModelConfig` that differ from what GPT-2's kin has alike."""
    n_vocab, n_embd, n_head = s.integer("vocab_size"), s.integer("n_embd"), s.integer("n_head")
    common: dict[str, Any] = {
        "n_vocab": n_vocab,
        "n_ctx": None if "n_ctx" in fields else s.integer("n_positions"),
        "n_embd": n_embd,
        "n_head": n_head,
        "n_kv_head": n_head,
        "head_dim": divided_width(s, "n_embd", "n_head"),
        "n_inner": s.integer("n_inner", 4 * n_embd),
        "norm": "layer_norm",
        "norm_eps": s.number("layer_norm_epsilon", 1e-5),
        "activation": None if "activation" in fields else s.activation("activation_function", "gelu_new"),
        "gated_mlp": False,
        "qkv_bias": True,
        "attn_out_bias": True,
        "mlp_bias": True,
        "learned_positions": True,
        "layers": tuple(layers),
        "tied_head": None if "tied_head" in fields else s.flag("tie_word_embeddings", True),
        **special_tokens(s, n_vocab),
    }
    return ModelConfig(**{**common, **fields})


def gpt_keys(c: ModelConfig, model_type: str, architecture: str, **more: object) -> dict[str, object]:
    """The inverse of `gpt`; `more` are the family's own keys."""
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "vocab_size": c.n_vocab,
        "n_positions": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.n_inner,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
        **more,
    }
