"""Llama."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig

from parity import Golden, old_dtype, old_rope


def llama(theta: float, scaling: dict[str, Any] | None = None, **changes: Any) -> LlamaConfig:
    """A small Llama of 2 layers with grouped queries; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 112, "max_position_embeddings": 40, "hidden_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 80}
    rope = {"rope_type": "default", "rope_theta": theta, **(scaling or {})}
    tokens = {"bos_token_id": 0, "eos_token_id": 1}
    return LlamaConfig(**{**base, **heads, **tokens, "rope_parameters": rope, **changes})


def old_keys(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """config.json as transformers 4 wrote it."""
    old_dtype(config)
    old_rope(config)
    del config["head_dim"]  # hidden_size / num_attention_heads here


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

GOLDENS = [
    Golden("llama-tied", llama(10000.0, tie_word_embeddings=True), torch.bfloat16),
    Golden(
        "llama-untied-sharded-multi-query",
        llama(100000.0, num_attention_heads=4, num_key_value_heads=1, head_dim=14, vocab_size=107),
        torch.float16,
        max_shard_size="30KB",
    ),
    Golden(
        "llama-llama3-rope-biases",
        llama(
            10000.0,
            {**LLAMA3, "original_max_position_embeddings": 32},
            num_attention_heads=3,
            num_key_value_heads=1,
            attention_bias=True,
            mlp_bias=True,
        ),
        torch.float32,
    ),
    Golden(
        "llama-linear-rope-gelu-multi-head",
        llama(
            500000.0,
            {"rope_type": "linear", "factor": 4.0},
            num_key_value_heads=6,
            intermediate_size=75,
            hidden_act="gelu_pytorch_tanh",
            rms_norm_eps=1e-3,
        ),
        torch.bfloat16,
        edit=old_keys,
    ),
]
