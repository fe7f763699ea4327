"""The shapes of new models: the families' own choices for a given size."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pygpt.config import LayerConfig, ModelConfig, Rope

Architecture = Literal["gpt1", "gpt2", "llama"]


def architecture(
    name: Architecture,
    *,
    n_vocab: int,
    n_ctx: int,
    n_layer: int,
    n_head: int,
    n_embd: int,
    n_kv_head: int | None = None,
    bos_id: int | None = None,
    eos_id: int | None = None,
) -> ModelConfig:
    """A model of a family: "gpt1" (Radford et al. 2018: the norm after each half of a block), "gpt2" (Radford et al.
    2019: before it) or "llama" (Touvron et al. 2023, arXiv:2302.13971: RMSNorm, rotary positions, SwiGLU).

    n_kv_head: fewer key and value heads than n_head, with "llama" alone (Ainslie et al. 2023, arXiv:2305.13245).
    The MLP is 4 n_embd wide; with its gate 8/3 n_embd, to the next multiple of 16, which is as many parameters.
    The head is the embedding. ValueError for a name or sizes that are not allowed.
    """
    if name not in get_args(Architecture):
        raise ValueError(f"the architecture must be one of {', '.join(get_args(Architecture))}, not {name!r}")
    if n_head < 1 or n_embd % n_head:
        raise ValueError(f"the width ({n_embd}) must be a multiple of the number of heads ({n_head})")
    llama = name == "llama"
    if n_kv_head not in (None, n_head) and not llama:
        raise ValueError(f"key and value heads must be as many as heads ({n_head}) in {name}, not {n_kv_head}")
    head_dim = n_embd // n_head
    if llama and head_dim % 2:
        raise ValueError(f"rotary positions need an even width of a head, not {head_dim}")
    layer = LayerConfig(attn_scale=head_dim**-0.5, rope=Rope(theta=10000.0, dim=head_dim) if llama else None)
    values: dict[str, Any] = {
        "n_vocab": n_vocab,
        "n_ctx": n_ctx,
        "n_embd": n_embd,
        "n_head": n_head,
        "n_kv_head": n_head if n_kv_head is None else n_kv_head,
        "head_dim": head_dim,
        "n_inner": -(-8 * n_embd // 48) * 16 if llama else 4 * n_embd,
        "norm": "rms_norm" if llama else "layer_norm",
        "norm_eps": 1e-5,
        "activation": "silu" if llama else "gelu_tanh",
        "gated_mlp": llama,
        "learned_positions": not llama,
        "layers": layer.repeated(n_layer),
        "bos_id": bos_id,
        "eos_ids": () if eos_id is None else (eos_id,),
        **dict.fromkeys(("qkv_bias", "attn_out_bias", "mlp_bias"), not llama),
    }
    if name == "gpt1":
        values["norm_placement"] = "after_sum"
    return ModelConfig(**values)
