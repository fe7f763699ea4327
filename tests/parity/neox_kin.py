"""GPT-NeoX, Falcon and StarCoder2: rotary positions with LayerNorm."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from transformers import FalconConfig, GPTNeoXConfig, PreTrainedModel, Starcoder2Config
from transformers.models.falcon import modeling_falcon

from parity import Golden, causal_mask, old_rope

TOKENS = {"bos_token_id": 0, "eos_token_id": 1}


def rope(theta: float, **changes: Any) -> dict[str, Any]:
    """A table of rotary settings."""
    return {"rope_type": "default", "rope_theta": theta, **changes}


def gpt_neox(rotary: dict[str, Any], **changes: Any) -> GPTNeoXConfig:
    """A small GPT-NeoX of 2 layers."""
    base = {"vocab_size": 61, "max_position_embeddings": 24, "hidden_size": 32, "num_hidden_layers": 2}
    sizes = {"num_attention_heads": 2, "intermediate_size": 45}
    return GPTNeoXConfig(**{**base, **sizes, **TOKENS, "rope_parameters": rotary, **changes})


def pythia_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As transformers 4 wrote it: masks and frequencies as tensors, the head under its own name, rotary_pct."""
    config["torch_dtype"] = config.pop("dtype")
    rotary = config.pop("rope_parameters")
    config |= {"rotary_pct": rotary["partial_rotary_factor"], "rotary_emb_base": rotary["rope_theta"]}
    for name in [name for name in tensors if name.startswith("lm_head")]:
        tensors[name.replace("lm_head", "embed_out")] = tensors.pop(name)
    for layer in range(config["num_hidden_layers"]):
        attention = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{attention}.bias"] = causal_mask(config["max_position_embeddings"])
        tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.ones(4)


def head_as_in_version_5(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """The head under the name that the class has for it."""
    for name in [name for name in tensors if name.startswith("embed_out")]:
        tensors[name.replace("embed_out", "lm_head")] = tensors.pop(name)


def falcon(**changes: Any) -> FalconConfig:
    """A small Falcon of 2 layers."""
    base = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return FalconConfig(**{**base, **TOKENS, "max_position_embeddings": 24, **changes})


def falcon_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """config.json as the hub has it for Falcon 7B."""
    config["torch_dtype"] = config.pop("dtype")
    old_rope(config)
    config |= {"auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"}, "num_kv_heads": 71}
    config["apply_residual_connection_post_layernorm"] = False


def exact_products(model: PreTrainedModel) -> None:
    """The class rounds ALiBi's slopes to bfloat16, which pygpt does too, and then their products with the position,
    which would bend the lines. Under "eager" it adds them twice, so it runs "sdpa"."""
    build = modeling_falcon.build_alibi_tensor

    def build_alibi_tensor(*arguments: Any, **more: Any) -> torch.Tensor:
        with patch.object(torch.Tensor, "bfloat16", lambda slopes: slopes.to(torch.bfloat16).double()):
            return build(*arguments, **more)

    modeling_falcon.build_alibi_tensor = build_alibi_tensor


def starcoder2(theta: float, **changes: Any) -> Starcoder2Config:
    """A small StarCoder2 of 2 layers."""
    base = {"vocab_size": 61, "max_position_embeddings": 24, "hidden_size": 32, "num_hidden_layers": 2}
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 45}
    return Starcoder2Config(**{**base, **sizes, **TOKENS, "rope_parameters": rope(theta), **changes})


def starcoder2_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """config.json as the hub has it, with keys of the first StarCoder."""
    config["torch_dtype"] = config.pop("dtype")
    old_rope(config)
    config |= {"activation_function": "gelu", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True}
    config |= {"mlp_type": "default", "norm_type": "layer_norm", "attention_softmax_in_fp32": True}


GOLDENS = [
    Golden("gpt_neox", gpt_neox(rope(10000.0, partial_rotary_factor=0.25)), torch.float16, edit=head_as_in_version_5),
    Golden(
        "gpt_neox-hub-sequential",
        gpt_neox(
            rope(500.0, partial_rotary_factor=0.5),
            use_parallel_residual=False,
            num_attention_heads=4,
            hidden_act="gelu_new",
        ),
        torch.bfloat16,
        edit=pythia_on_the_hub,
    ),
    Golden(
        "gpt_neox-tied-no-attention-bias",
        gpt_neox(
            rope(10000.0, rope_type="linear", factor=2.0, partial_rotary_factor=1.0),
            tie_word_embeddings=True,
            attention_bias=False,
            hidden_size=30,
            num_attention_heads=3,
        ),
        torch.float16,
    ),
    Golden("falcon-multi-query", falcon(), torch.float16, edit=falcon_on_the_hub),
    Golden(
        "falcon-alibi-sequential-6-heads",
        falcon(hidden_size=24, num_attention_heads=6, alibi=True, multi_query=False, parallel_attn=False, bias=True),
        torch.bfloat16,
        mend=exact_products,
        attention="sdpa",
    ),
    Golden("falcon-grouped-two-norms", falcon(new_decoder_architecture=True, num_kv_heads=2), torch.bfloat16),
    Golden(
        "falcon-grouped-one-norm-untied",
        falcon(
            new_decoder_architecture=True,
            num_kv_heads=2,
            num_ln_in_parallel_attn=1,
            ffn_hidden_size=50,
            tie_word_embeddings=False,
            bias=True,
            activation="relu",
            rope_parameters=rope(500.0, rope_type="linear", factor=2.0),
        ),
        torch.float16,
    ),
    Golden("starcoder2-window", starcoder2(10000.0, sliding_window=7, hidden_act="gelu"), torch.bfloat16),
    Golden(
        "starcoder2-hub-no-bias-untied",
        starcoder2(500.0, use_bias=False, tie_word_embeddings=False, num_key_value_heads=1),
        torch.float16,
        edit=starcoder2_on_the_hub,
    ),
]
