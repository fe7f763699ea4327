"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia (Biderman et al. 2023, arXiv:2304.01373): attention and MLP
in parallel, each with a norm of its own, or in sequence; rotary positions on a part of each head; q, k and v fused head
by head.

Names and keys are those of Hugging Face transformers' GPTNeoXForCausalLM and of llama.cpp's GGUF "gptneox".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source, divided_width, fused_qkv
from pygpt.families.decoder import GGUF_FUSED, decoder, decoder_settings, layer_count, rope_of

OLDER = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
"""The names that version 4 of transformers has for what all families call so."""


def config(s: Settings) -> ModelConfig:
    """config.json of GPTNeoXForCausalLM."""
    n_head, head_dim = s.integer("num_attention_heads"), divided_width(s, "hidden_size", "num_attention_heads")
    s.require("head_dim", head_dim, f"{head_dim}, the share of a head in hidden_size")
    s.require("num_key_value_heads", n_head, f"num_attention_heads ({n_head})")
    rope, bias = rope_of(s, partial=0.25, older=OLDER), s.flag("attention_bias", True)
    return decoder(
        s,
        LayerConfig(attn_scale=head_dim**-0.5, rope=rope).repeated(layer_count(s)),
        norm="layer_norm",
        norm_eps=s.number("layer_norm_eps", 1e-5),
        activation=s.activation("hidden_act", "gelu"),
        gated_mlp=False,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=True,
        branches="parallel" if s.flag("use_parallel_residual", True) else "sequential",
    )


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`, with the rotary settings as version 4 spells them, which version 5 reads too."""
    own = {"attention_bias": c.qkv_bias, "use_parallel_residual": c.branches == "parallel"}
    table = decoder_settings(c, "gpt_neox", "GPTNeoXForCausalLM", "layer_norm_eps", **own)
    if (rope := c.layers[0].rope) is not None:
        table["rotary_emb_base"] = table.pop("rope_theta")
        table["rotary_pct"] = rope.dim / c.head_dim
    return table


FAMILY = Family(
    name="gpt_neox",
    model_types=("gpt_neox",),
    config=config,
    settings=settings,
    new=None,
    prefix="gpt_neox.",
    sources={
        "embed": Source("embed_in"),
        "blocks.{i}.attn_norm": Source("layers.{i}.input_layernorm"),
        **fused_qkv("layers.{i}.attention.query_key_value", groups="n_kv_head"),
        "blocks.{i}.attn.out": Source("layers.{i}.attention.dense"),
        "blocks.{i}.mlp_norm": Source("layers.{i}.post_attention_layernorm"),
        "blocks.{i}.mlp.up": Source("layers.{i}.mlp.dense_h_to_4h"),
        "blocks.{i}.mlp.down": Source("layers.{i}.mlp.dense_4h_to_h"),
        "norm": Source("final_layer_norm"),
        "head": Source("embed_out", also="lm_head"),
    },
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    harmless={},
    gguf=Gguf(
        architecture="gptneox",
        sources=GGUF_FUSED,
    ),
)
