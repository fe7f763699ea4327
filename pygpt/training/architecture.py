"""The shapes of new models: the families' own choices for a given size."""

from __future__ import annotations

from typing import Literal

from pygpt.config import ModelConfig
from pygpt.families import Sizes, new_model

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
    return new_model(name, Sizes(n_vocab, n_ctx, n_layer, n_head, n_embd, n_kv_head, bos_id, eos_id))
