"""GPT-Neo, GPTBigCode and MPT: GPT-2's block with another attention."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPTBigCodeConfig, GPTNeoConfig, MptConfig, PreTrainedModel
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from parity import Golden, causal_mask, old_dtype, without_prefix

TOKENS = {"bos_token_id": 0, "eos_token_id": 1}


def gpt_neo(**changes: Any) -> GPTNeoConfig:
    """3 layers, of which the second has a window much shorter than the text."""
    base = {"vocab_size": 61, "max_position_embeddings": 24, "hidden_size": 28, "num_heads": 4, "window_size": 5}
    layers = {"num_layers": 3, "attention_types": [[["global", "local"], 1], [["global"], 1]]}
    return GPTNeoConfig(**{**base, **layers, **TOKENS, **changes})


def gpt_neo_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As transformers 4 wrote it: the masks as tensors."""
    without_prefix(tensors, "transformer.")
    old_dtype(config)
    for layer in range(config["num_layers"]):
        mask = causal_mask(config["max_position_embeddings"])
        tensors[f"h.{layer}.attn.attention.bias"] = mask
        tensors[f"h.{layer}.attn.attention.masked_bias"] = torch.tensor(-1e9)


def gpt_bigcode(**changes: Any) -> GPTBigCodeConfig:
    """A small StarCoder of 2 layers."""
    base = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPTBigCodeConfig(**{**base, **TOKENS, **changes})


def mpt(attention: dict[str, Any] | None = None, **changes: Any) -> MptConfig:
    """A small MPT of 2 layers."""
    base = {"vocab_size": 61, "max_seq_len": 24, "d_model": 32, "n_layers": 2, "n_heads": 4}
    return MptConfig(**{**base, **TOKENS, "attn_config": attention or {}, **changes})


def mpt_slopes(model: PreTrainedModel) -> None:
    """The class leaves alibi_bias_max at 8; the program that trained MPT, and llama.cpp, use it."""
    steepest = model.config.attn_config.alibi_bias_max
    model.transformer.build_mpt_alibi_tensor = lambda n_head, n_ctx, device: build_mpt_alibi_tensor(
        n_head, n_ctx, steepest, device
    )


GOLDENS = [
    Golden("gpt_neo", gpt_neo(), torch.float16),
    Golden(
        "gpt_neo-bare",
        gpt_neo(
            num_layers=2,
            attention_types=[[["local"], 2]],
            window_size=9,
            intermediate_size=50,
            activation_function="gelu",
        ),
        torch.bfloat16,
        edit=gpt_neo_on_the_hub,
    ),
    Golden("gpt_bigcode", gpt_bigcode(), torch.bfloat16),
    Golden(
        "gpt_bigcode-multi-head-unscaled",
        gpt_bigcode(
            multi_query=False,
            n_inner=45,
            scale_attn_weights=False,
            activation_function="gelu",
            tie_word_embeddings=False,
        ),
        torch.float16,
    ),
    Golden("mpt", mpt(), torch.bfloat16, n_ctx=24),
    Golden(
        "mpt-6-heads-untied",
        mpt({"alibi_bias_max": 4}, d_model=30, n_heads=6, tie_word_embeddings=False),
        torch.float16,
        mend=mpt_slopes,
        n_ctx=24,
    ),
    Golden("mpt-softmax-scale", mpt({"softmax_scale": 0.31}, n_layers=1), torch.float16, n_ctx=24),
]
