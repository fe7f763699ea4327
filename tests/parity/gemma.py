"""Gemma 1 to 3, stored in 16 bits: 1 more than a weight of theirs is a float32 then, without rounding."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Gemma2Config, Gemma3Config, Gemma3TextConfig, GemmaConfig, SiglipVisionConfig

from parity import Golden, old_dtype
from parity.llama_kin import old_keys, small


def gemma1_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As it was first published, where "gelu" means the tanh form."""
    old_keys(config, tensors)
    config["hidden_act"] = "gelu"


def gemma3_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As transformers 4 wrote it."""
    old_dtype(config)
    ropes = config.pop("rope_parameters")
    config["rope_theta"] = ropes["full_attention"]["rope_theta"]
    config["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = {"rope_type": "linear", "factor": ropes["full_attention"]["factor"]}
    config["sliding_window_pattern"] = config.pop("_sliding_window_pattern", 3)
    del config["layer_types"]


STRETCHED = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
}

WITH_IMAGES = Gemma3Config(
    text_config=small(Gemma3TextConfig, head_dim=12, hidden_size=20, num_attention_heads=2, num_key_value_heads=1),
    vision_config=SiglipVisionConfig(
        hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, image_size=4, patch_size=2
    ),
    mm_tokens_per_image=1,
    image_token_index=66,
)

GOLDENS = [
    Golden("gemma", small(GemmaConfig, head_dim=16, num_key_value_heads=1), torch.bfloat16),
    Golden("gemma-biases", small(GemmaConfig, head_dim=10, attention_bias=True), torch.float16, edit=gemma1_on_the_hub),
    Golden("gemma2", small(Gemma2Config, head_dim=12, query_pre_attn_scalar=12, sliding_window=7, num_hidden_layers=3,
                           attn_logit_softcapping=3.0, final_logit_softcapping=5.0), torch.bfloat16),
    Golden("gemma2-uncapped", small(Gemma2Config, head_dim=10, sliding_window=5, attn_logit_softcapping=None,
                                    final_logit_softcapping=None, layer_types=["full_attention", "sliding_attention"]),
           torch.bfloat16, edit=old_keys),
    Golden("gemma3", small(Gemma3TextConfig, head_dim=12, query_pre_attn_scalar=12, num_hidden_layers=6, hidden_size=20,
                           num_attention_heads=2, num_key_value_heads=1, sliding_window=6), torch.bfloat16),
    Golden("gemma3-stretched", small(Gemma3TextConfig, head_dim=10, num_hidden_layers=3, sliding_window=6,
                                     sliding_window_pattern=3, query_pre_attn_scalar=14, final_logit_softcapping=6.0,
                                     rope_parameters=STRETCHED), torch.float16, edit=gemma3_on_the_hub),
    Golden("gemma3-with-images", WITH_IMAGES, torch.bfloat16),
]  # fmt: skip
