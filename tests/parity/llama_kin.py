"""Families that Llama's block, with a window or a norm or a factor more, says; and its stretched rotary positions."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from transformers import (
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from parity import Golden, old_dtype, old_rope

C = TypeVar("C", bound=PretrainedConfig)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 20, "rope_theta": 1000.0}
SHORT, LONG = [1.0, 1.1, 1.5, 3.0], [1.0, 2.5, 6.0, 20.0]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "rope_theta": 1000.0}


def small(cls: type[C], **changes: Any) -> C:
    """2 layers with grouped queries and heads of 8; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 67, "max_position_embeddings": 32, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 44}
    return cls(**{**base, **heads, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, **changes})


def old_keys(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """config.json as transformers 4 wrote it."""
    old_dtype(config)
    old_rope(config)


GOLDENS = [
    Golden("llama-yarn", small(LlamaConfig, head_dim=16, rope_parameters=YARN), torch.float32),
    Golden(
        "llama-yarn-options",
        small(
            LlamaConfig,
            rope_parameters={**YARN, "beta_fast": 2.0, "beta_slow": 0.1, "truncate": False, "mscale": 0.7,
                             "mscale_all_dim": 1.3},
        ),
        torch.bfloat16,
        edit=old_keys,
    ),
    Golden(
        "llama-dynamic-rope",
        small(
            LlamaConfig, max_position_embeddings=20,
            rope_parameters={"rope_type": "dynamic", "factor": 3.0, "rope_theta": 1000.0},
        ),
        torch.float16,
        n_ctx=32,
    ),
    Golden("mistral-window9", small(MistralConfig, sliding_window=9, head_dim=14), torch.bfloat16),
    Golden("smollm3", small(SmolLM3Config, num_hidden_layers=5, hidden_size=24, intermediate_size=33), torch.bfloat16),
    Golden(
        "smollm3-windows-biases",
        small(SmolLM3Config, no_rope_layers=[0, 1], use_sliding_window=True, sliding_window=7, attention_bias=True,
              mlp_bias=True),
        torch.float16,
    ),
    Golden("olmo2-multi-head", small(Olmo2Config, num_key_value_heads=4), torch.float32),
    Golden("olmo2-biases", small(Olmo2Config, attention_bias=True, rms_norm_eps=1e-3), torch.bfloat16, edit=old_keys),
    Golden(
        "granite",
        small(GraniteConfig, embedding_multiplier=3.5, logits_scaling=0.75, residual_multiplier=0.6,
              attention_multiplier=0.2, mlp_bias=True),
        torch.bfloat16,
    ),
    Golden("qwen2-tied", small(Qwen2Config, tie_word_embeddings=True), torch.bfloat16),
    Golden(
        "qwen2-windows-yarn",
        small(Qwen2Config, num_hidden_layers=3, hidden_size=24, num_attention_heads=3, num_key_value_heads=1,
              use_sliding_window=True, sliding_window=9, max_window_layers=1, rope_parameters=YARN),
        torch.float16,
    ),
    Golden("qwen3-head14", small(Qwen3Config, head_dim=14, tie_word_embeddings=True), torch.bfloat16),
    Golden(
        "qwen3-window-biases",
        small(Qwen3Config, head_dim=10, attention_bias=True, use_sliding_window=True, sliding_window=5,
              layer_types=["sliding_attention", "full_attention"]),
        torch.float32,
    ),
    Golden("phi-half", small(PhiConfig, num_key_value_heads=4, intermediate_size=128), torch.float16, edit=old_keys),
    Golden(
        "phi-grouped-tied",
        small(PhiConfig, hidden_size=40, partial_rotary_factor=0.4, tie_word_embeddings=True, hidden_act="gelu"),
        torch.bfloat16,
    ),
    Golden("phi3-window", small(Phi3Config, sliding_window=11), torch.bfloat16),
    Golden(
        "phi3-long", small(Phi3Config, original_max_position_embeddings=16, rope_parameters=dict(LONGROPE)),
        torch.bfloat16, edit=old_keys,
    ),
    Golden(
        "phi3-short-partial",
        small(Phi3Config, hidden_size=48, original_max_position_embeddings=16, partial_rotary_factor=0.7,
              rope_parameters={**LONGROPE, "partial_rotary_factor": 0.7}, tie_word_embeddings=True),
        torch.float16,
        n_ctx=16,
    ),
]  # fmt: skip
