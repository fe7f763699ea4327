"""GPT-1 and GPT-2."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, OpenAIGPTConfig

from parity import Golden, causal_mask, old_dtype, without_prefix


def gpt2(**changes: Any) -> GPT2Config:
    """A small GPT-2 of 2 layers; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 112, "n_positions": 24, "n_embd": 40, "n_layer": 2, "n_head": 5, "n_inner": 64}
    return GPT2Config(**{**base, "bos_token_id": 0, "eos_token_id": 1, **changes})


def gpt1(**changes: Any) -> OpenAIGPTConfig:
    """A small GPT-1 of 2 layers."""
    base = {"vocab_size": 107, "n_positions": 24, "n_embd": 28, "n_layer": 2, "n_head": 4}
    return OpenAIGPTConfig(**{**base, **changes})


def first_published(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """No prefix, and the causal mask as a tensor."""
    without_prefix(tensors, "transformer.")
    for layer in range(config["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = causal_mask(config["n_positions"])
        if config["model_type"] == "gpt2":
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)


def gpt2_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As transformers 4 wrote it."""
    first_published(config, tensors)
    old_dtype(config)
    config["n_ctx"] = config["n_positions"]


GOLDENS = [
    Golden("gpt2-head20", gpt2(n_head=2, n_inner=None), torch.float32),
    Golden(
        "gpt2-vocab101-gelu-inverse-layer",
        gpt2(
            vocab_size=101,
            activation_function="gelu",
            scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True,
        ),
        torch.float16,
    ),
    Golden(
        "gpt2-inner77-untied-unscaled",
        gpt2(n_embd=48, n_head=3, n_inner=77, tie_word_embeddings=False, scale_attn_weights=False),
        torch.bfloat16,
    ),
    Golden("gpt2-bare-relu", gpt2(activation_function="relu"), torch.float32, edit=gpt2_on_the_hub),
    Golden("gpt1", gpt1(), torch.float16),
    Golden("gpt1-bare-relu-untied", gpt1(afn="relu", tie_word_embeddings=False), torch.bfloat16, edit=first_published),
]
