"""GPT-J (Wang and Komatsuzaki 2021, github.com/kingoflolz/mesh-transformer-jax): one norm feeds attention and MLP,
which run in parallel; rotary positions turn neighbouring values of a part of each head; the head has a bias.

Names and keys are those of Hugging Face transformers' GPTJForCausalLM. llama.cpp names this architecture and does not
run it, so there are no GGUF files of it.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig, Rope
from pygpt.families.base import (
    ACTIVATION_NAMES,
    Family,
    Settings,
    Source,
    divided_width,
    special_tokens,
    token_settings,
)
from pygpt.families.keys import fixed


def config(s: Settings) -> ModelConfig:
    """config.json of GPTJForCausalLM."""
    n_embd, n_head, n_vocab = s.integer("n_embd"), s.integer("n_head"), s.integer("vocab_size")
    head_dim = divided_width(s, "n_embd", "n_head")
    if "rotary_dim" in s.values and s.get("rotary_dim") is None:  # the class takes n_embd for it, and then fails
        raise s.error("rotary_dim", "a positive integer")
    rope = Rope(theta=10000.0, dim=s.integer("rotary_dim", 64), interleaved=True)
    return ModelConfig(
        n_vocab=n_vocab,
        n_ctx=s.integer("n_positions"),
        n_embd=n_embd,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_inner=s.integer("n_inner", 4 * n_embd),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_epsilon", 1e-5),
        activation=s.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=True,
        learned_positions=False,
        layers=LayerConfig(attn_scale=head_dim**-0.5, rope=rope).repeated(s.integer("n_layer")),
        tied_head=s.flag("tie_word_embeddings", False),
        branches="parallel_one_norm",
        head_bias=True,
        **special_tokens(s, n_vocab),
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return {
        "model_type": "gptj",
        "architectures": ["GPTJForCausalLM"],
        "vocab_size": c.n_vocab,
        "n_positions": c.n_ctx,
        "n_embd": c.n_embd,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.n_inner,
        "rotary_dim": c.layers[0].rope.dim if c.layers[0].rope else 64,
        "activation_function": ACTIVATION_NAMES.get(c.activation),
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied_head,
        **token_settings(c),
    }


FAMILY = Family(
    name="gptj",
    model_types=("gptj",),
    config=config,
    settings=settings,
    new=None,
    prefix="transformer.",
    sources={
        "embed": Source("wte"),
        "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
        "blocks.{i}.attn.q": Source("h.{i}.attn.q_proj"),
        "blocks.{i}.attn.k": Source("h.{i}.attn.k_proj"),
        "blocks.{i}.attn.v": Source("h.{i}.attn.v_proj"),
        "blocks.{i}.attn.out": Source("h.{i}.attn.out_proj"),
        "blocks.{i}.mlp.up": Source("h.{i}.mlp.fc_in"),
        "blocks.{i}.mlp.down": Source("h.{i}.mlp.fc_out"),
        "norm": Source("ln_f"),
        "head": Source("lm_head"),
    },
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias|embed_positions)",),
    harmless=fixed("GPT-J always does so", rotary=True, scale_attn_weights=True),
    gguf=None,
)
