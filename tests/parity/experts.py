"""Mixtures of experts."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from transformers import GptOssConfig, MixtralConfig, PretrainedConfig, PreTrainedModel, Qwen2MoeConfig, Qwen3MoeConfig

from parity import Edit, Golden, old_dtype, old_rope

C = TypeVar("C", bound=PretrainedConfig)
Tensors = dict[str, torch.Tensor]


def small(cls: type[C], **changes: Any) -> C:
    """2 layers with grouped queries and heads of 8; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 61, "max_position_embeddings": 32, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
    return cls(**{**base, **heads, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, **changes})


def one_by_one(model: PreTrainedModel) -> None:
    """An expert after the other, in plain PyTorch: the product of groups knows no float64."""
    model.set_experts_implementation("eager")


def gpt_oss(**changes: Any) -> GptOssConfig:
    rope = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
            "original_max_position_embeddings": 8, "rope_theta": 1000.0}  # fmt: skip
    small_window = {"sliding_window": 9, "num_local_experts": 5, "num_experts_per_tok": 2}
    return small(GptOssConfig, **{"rope_parameters": rope, "head_dim": 8, **small_window, **changes})


def old_keys(config: dict[str, Any], tensors: Tensors) -> None:
    """config.json as transformers 4 wrote it."""
    old_dtype(config)
    old_rope(config)


def fused(config: dict[str, Any], tensors: Tensors) -> None:
    """Mixtral's tensors as transformers 5 has them in memory: experts side by side, gate and up in one."""
    for i in range(config["num_hidden_layers"]):
        old, new = f"model.layers.{i}.block_sparse_moe", f"model.layers.{i}.mlp"
        experts = [
            [tensors.pop(f"{old}.experts.{e}.w{w}.weight") for w in (1, 3, 2)]
            for e in range(config["num_local_experts"])
        ]
        tensors[f"{new}.gate.weight"] = tensors.pop(f"{old}.gate.weight")
        tensors[f"{new}.experts.gate_up_proj"] = torch.stack([torch.cat([gate, up]) for gate, up, _ in experts])
        tensors[f"{new}.experts.down_proj"] = torch.stack([down for *_, down in experts])


def in_mxfp4(config: dict[str, Any], tensors: Tensors) -> None:
    """gpt-oss's experts as they were published: random halves of bytes, and scales that leave values below 1."""
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith("_proj") and ".experts." in name]:
        n_expert, inputs, outputs = tensors.pop(name).shape
        shape = (n_expert, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
        tensors[f"{name}_scales"] = torch.randint(121, 125, shape, dtype=torch.uint8, generator=generator)
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }


def golden(name: str, config: PretrainedConfig, edit: Edit | None = None) -> Golden:
    return Golden(name, config, torch.bfloat16, edit=edit, mend=one_by_one)


GOLDENS = [
    golden("mixtral", small(MixtralConfig, num_local_experts=6)),
    golden(
        "mixtral-window9-fused",
        small(MixtralConfig, num_local_experts=5, num_experts_per_tok=3, sliding_window=9, intermediate_size=21),
        edit=fused,
    ),
    golden(
        "qwen2-moe-sparse-step2",
        small(Qwen2MoeConfig, num_hidden_layers=3, decoder_sparse_step=2, num_experts=6, num_experts_per_tok=3,
              moe_intermediate_size=19, shared_expert_intermediate_size=27),
    ),
    golden(
        "qwen2-moe-normalized-window7",
        small(Qwen2MoeConfig, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=16,
              shared_expert_intermediate_size=40, use_sliding_window=True, sliding_window=7),
    ),
    golden(
        "qwen3-moe-mlp-only",
        small(Qwen3MoeConfig, num_hidden_layers=3, mlp_only_layers=[1], num_experts=7, num_experts_per_tok=4,
              norm_topk_prob=True, moe_intermediate_size=24, head_dim=16),
        edit=old_keys,
    ),
    golden(
        "qwen3-moe-weights-of-all",
        small(Qwen3MoeConfig, num_experts=4, num_experts_per_tok=3, moe_intermediate_size=24, attention_bias=True,
              use_sliding_window=True, sliding_window=8),
    ),
    golden(
        "qwen2-moe",
        small(Qwen2MoeConfig, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
              shared_expert_intermediate_size=24),
    ),
    golden(
        "qwen3-moe",
        small(Qwen3MoeConfig, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=16),
    ),
    golden("gpt-oss", gpt_oss(num_hidden_layers=3, num_local_experts=4, num_experts_per_tok=2)),
    golden("gpt-oss-mxfp4", gpt_oss(intermediate_size=64), edit=in_mxfp4),
]  # fmt: skip
