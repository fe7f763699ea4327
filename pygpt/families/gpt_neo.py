"""GPT-Neo (Black et al. 2021, doi:10.5281/zenodo.5297715), GPT-3's design in the open: layers that see all before them
and layers with a window in turn, scores that are not scaled, no biases on q, k and v; the rest is GPT-2's.

Names and keys are those of Hugging Face transformers' GPTNeoForCausalLM. GGUF has no such architecture.
"""

from __future__ import annotations

from pygpt.config import MAX_LAYERS, LayerConfig, ModelConfig
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Family,
    Settings,
    Source,
    divided_width,
    special_tokens,
    token_settings,
)
from pygpt.families.keys import harmless


def _is_kind(value: object) -> bool:
    return value in ("global", "local")


def kinds_of_layers(s: Settings) -> list[str]:
    """ "global" or "local" for each layer: `attention_types` lists patterns, each with how often it is repeated."""
    n_layer, allowed = s.integer("num_layers"), "patterns of 'global' and 'local' for as many layers as num_layers"
    types = s.get("attention_types") if s.has("attention_types") else [[["global", "local"], 12]]
    kinds: list[str] = []
    for item in types if isinstance(types, list) else [None]:
        match item:
            case [list(pattern), int(times)] if len(pattern) * times <= MAX_LAYERS and all(map(_is_kind, pattern)):
                kinds += pattern * times
            case _:
                raise s.error("attention_types", allowed)
    if len(kinds) != n_layer:
        raise s.error("attention_types", f"{allowed} ({n_layer})")
    s.require("attention_layers", kinds, "what attention_types says")
    return kinds


def config(s: Settings) -> ModelConfig:
    """config.json of GPTNeoForCausalLM."""
    n_embd, n_vocab = s.integer("hidden_size"), s.integer("vocab_size")
    windows = {"global": None, "local": s.integer("window_size", 256)}
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("max_position_embeddings"),
        n_embd=n_embd,
        n_head=s.integer("num_heads"),
        n_kv_head=s.integer("num_heads"),
        head_dim=divided_width(s, "hidden_size", "num_heads"),
        n_inner=s.integer("intermediate_size", 4 * n_embd),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        qkv_bias=False,
        attn_out_bias=True,
        mlp_bias=True,
        learned_positions=True,
        layers=tuple(LayerConfig(attn_scale=1.0, window=windows[kind]) for kind in kinds_of_layers(s)),
        tied_head=s.flag("tie_word_embeddings", True),
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    kinds = ["global" if layer.window is None else "local" for layer in c.layers]
    windows = [layer.window for layer in c.layers if layer.window is not None]
    return {
        "model_type": "gpt_neo",
        "architectures": ["GPTNeoForCausalLM"],
        "vocab_size": c.n_vocab,
        "max_position_embeddings": c.n_ctx,
        "hidden_size": c.n_embd,
        "num_layers": c.n_layer,
        "num_heads": c.n_head,
        "intermediate_size": c.n_inner,
        "attention_types": [[kinds, 1]],
        "window_size": windows[0] if windows else 256,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


FAMILY = Family(
    name="gpt_neo",
    model_types=("gpt_neo",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "pos": Source("wpe"),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
        "blocks.{i}.attn.q": Source("h.{i}.attn.attention.q_proj"),
        "blocks.{i}.attn.k": Source("h.{i}.attn.attention.k_proj"),
        "blocks.{i}.attn.v": Source("h.{i}.attn.attention.v_proj"),
        "blocks.{i}.attn.out": Source("h.{i}.attn.attention.out_proj"),
        "blocks.{i}.mlp_norm": Source("h.{i}.ln_2"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.c_fc"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.c_proj"),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.attention\.(bias|masked_bias)",),
    harmless=harmless("of training alone", "resid_dropout", "embed_dropout"),
    gguf=None,
)
