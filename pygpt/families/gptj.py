"""GPT-J (Wang and Komatsuzaki 2021, github.com/kingoflolz/mesh-transformer-jax): one norm feeds attention and MLP,
which run in parallel; rotary positions turn neighbouring values of a part of each head; the head has a bias.

Names and keys are those of Hugging Face transformers' GPTJForCausalLM. llama.cpp names this architecture and does not
run it, so there are no GGUF files of it.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig, Rope
from pygpt.families.base import (
    Family,
    Settings,
    Source,
    divided_width,
)
from pygpt.families.gpt import gpt, gpt_keys
from pygpt.families.keys import fixed


def config(s: Settings) -> ModelConfig:
    """config.json of GPTJForCausalLM."""
    head_dim = divided_width(s, "n_embd", "n_head")
    if "rotary_dim" in s.values and s.get("rotary_dim") is None:  # the class takes n_embd for it, and then fails
        raise s.error("rotary_dim", "a positive integer")
    rope = Rope(theta=10000.0, dim=s.integer("rotary_dim", 64), interleaved=True)
    return gpt(
        s,
        LayerConfig(attn_scale=head_dim**-0.5, rope=rope).repeated(s.integer("n_layer")),
        qkv_bias=False,
        attn_out_bias=False,
        learned_positions=False,
        tied_head=s.flag("tie_word_embeddings", False),
        branches="parallel_one_norm",
        head_bias=True,
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return gpt_keys(c, "gptj", "GPTJForCausalLM", rotary_dim=c.layers[0].rope.dim if c.layers[0].rope else 64)


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
