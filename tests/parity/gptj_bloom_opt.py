"""GPT-J, BLOOM and OPT."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BloomConfig, GPTJConfig, OPTConfig, PreTrainedModel

from parity import Golden, causal_mask, without_prefix

TOKENS = {"bos_token_id": 0, "eos_token_id": 1}


def gptj(**changes: Any) -> GPTJConfig:
    """A small GPT-J of 2 layers."""
    base = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
    return GPTJConfig(**{**base, **TOKENS, **changes})


def gptj_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As transformers 4 wrote it: the masks as tensors."""
    config["torch_dtype"] = config.pop("dtype")
    config |= {"rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False}
    for layer in range(config["n_layer"]):
        tensors[f"transformer.h.{layer}.attn.bias"] = causal_mask(config["n_positions"])
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)


def bloom(**changes: Any) -> BloomConfig:
    """A small BLOOM of 2 layers."""
    base = {"vocab_size": 61, "hidden_size": 32, "n_layer": 2, "n_head": 4, "seq_length": 24}
    return BloomConfig(**{**base, **TOKENS, **changes})


def bloom_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As first published: no prefix, other names for sizes, and what Megatron wrote."""
    without_prefix(tensors, "transformer.")
    config["torch_dtype"] = config.pop("dtype")
    config["n_embed"] = config.pop("hidden_size")
    config["num_attention_heads"] = config.pop("n_head")
    config |= {"masked_softmax_fusion": True, "bias_dropout_fusion": True, "offset_alibi": 100, "n_inner": None}


def exact_gelu_tanh(model: PreTrainedModel) -> None:
    """The class has sqrt(2 / pi) in 8 digits, which is the same in float32."""
    for block in model.transformer.h:
        block.mlp.gelu_impl = torch.nn.GELU(approximate="tanh")


def opt(**changes: Any) -> OPTConfig:
    """A small OPT of 2 layers."""
    base = {"vocab_size": 61, "max_position_embeddings": 24, "hidden_size": 28, "num_hidden_layers": 2}
    sizes = {"num_attention_heads": 4, "ffn_dim": 45, "pad_token_id": 1}
    return OPTConfig(**{**base, **sizes, **TOKENS, **changes})


def opt_on_the_hub(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """As OPT 350M was first published."""
    without_prefix(tensors, "model.")
    config["torch_dtype"] = config.pop("dtype")
    config |= {"prefix": "</s>", "activation_dropout": 0.0}


GOLDENS = [
    Golden("gptj", gptj(n_inner=45), torch.float16),
    Golden(
        "gptj-masks-whole-head-relu",
        gptj(rotary_dim=8, activation_function="relu", n_embd=24, n_head=3, tie_word_embeddings=True),
        torch.bfloat16,
        edit=gptj_on_the_hub,
    ),
    Golden("bloom", bloom(), torch.bfloat16, mend=exact_gelu_tanh, n_ctx=24),
    Golden(
        "bloom-bare-6-heads",
        bloom(hidden_size=30, n_head=6),
        torch.float16,
        edit=bloom_on_the_hub,
        mend=exact_gelu_tanh,
        n_ctx=24,
    ),
    Golden("opt", opt(), torch.float16),
    Golden(
        "opt-bare-post-norm-projected",
        opt(do_layer_norm_before=False, word_embed_proj_dim=12),
        torch.bfloat16,
        edit=opt_on_the_hub,
    ),
    Golden(
        "opt-projected-untied-no-bias",
        opt(word_embed_proj_dim=20, tie_word_embeddings=False, enable_bias=False, activation_function="gelu"),
        torch.float16,
    ),
]
