"""The config.json of published checkpoints, as the hub has them: mixtures, and Llama's and GPT-NeoX's larger ones."""

from __future__ import annotations

from typing import Any

import pytest

from pygpt.config import Experts, ModelConfig
from pygpt.families import Settings, by_model_type, keys, model_config, settings_for

Values = dict[str, Any]
V4 = {
    "attention_dropout": 0.0, "initializer_range": 0.02, "torch_dtype": "bfloat16", "transformers_version": "4.40.0",
    "use_cache": True, "tie_word_embeddings": False, "hidden_act": "silu", "rms_norm_eps": 1e-5,
}  # fmt: skip
MOE = {"output_router_logits": False, "router_aux_loss_coef": 0.001}

GPT_NEOX_20B = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "attention_probs_dropout_prob": 0,
    "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu_fast", "hidden_dropout_prob": 0, "hidden_size": 6144,
    "initializer_range": 0.02, "intermediate_size": 24576, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048,
    "num_attention_heads": 64, "num_hidden_layers": 44, "rotary_emb_base": 10000, "rotary_pct": 0.25,
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.19.0.dev0", "use_cache": True,
    "vocab_size": 50432,
}  # fmt: skip
LLAMA_32_1B = {
    **V4, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "head_dim": 64,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_size": 2048, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 16,
    "num_key_value_heads": 8, "pretraining_tp": 1, "rope_theta": 500000.0, "tie_word_embeddings": True,
    "vocab_size": 128256, "rope_scaling": {
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip
MIXTRAL_8X7B = {
    **V4, **MOE, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "num_local_experts": 8, "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 32000,
}  # fmt: skip
QWEN15_MOE = {
    **V4, **MOE, "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "bos_token_id": 151643,
    "eos_token_id": 151643, "decoder_sparse_step": 1, "hidden_size": 2048, "intermediate_size": 5632,
    "max_position_embeddings": 8192, "max_window_layers": 21, "moe_intermediate_size": 1408, "norm_topk_prob": False,
    "num_attention_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_key_value_heads": 16, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "shared_expert_intermediate_size": 5632, "sliding_window": 32768, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
QWEN3_30B_A3B = {
    **V4, **MOE, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False,
    "bos_token_id": 151643, "eos_token_id": 151645, "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 2048,
    "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
    "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-6,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": None, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
GPT_OSS_20B = {
    **V4, **MOE, "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "attention_bias": True,
    "eos_token_id": 200002, "experts_per_token": 4, "head_dim": 64, "hidden_size": 2880,
    "initial_context_length": 4096, "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072,
    "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
    "num_local_experts": 32, "pad_token_id": 199999, "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0,
    "vocab_size": 201088, "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn", "truncate": False,
    },
    "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens"],
        "quant_method": "mxfp4",
    },
}  # fmt: skip

PUBLISHED = [
    (GPT_NEOX_20B, 20_554_567_680), (LLAMA_32_1B, 1_235_814_400), (MIXTRAL_8X7B, 46_702_792_704),
    (QWEN15_MOE, 14_315_784_192), (QWEN3_30B_A3B, 30_532_122_624), (GPT_OSS_20B, 20_914_757_184),
]  # fmt: skip


def read(values: Values, *without: str) -> ModelConfig:
    settings = Settings({k: v for k, v in values.items() if k not in without}, "config.json")
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    return config


@pytest.mark.parametrize(
    ("values", "n_params"), PUBLISHED, ids=lambda v: v["model_type"] if isinstance(v, dict) else ""
)
def test_sizes_and_what_is_written_back(values: Values, n_params: int) -> None:
    config = read(values)
    assert config.n_params() == n_params
    assert settings_for(config, values["model_type"])[1]["model_type"] == values["model_type"]


def test_experts() -> None:
    expected = {
        "mixtral": Experts(n_expert=8, n_used=2, n_inner=14336),
        "qwen2_moe": Experts(
            n_expert=60, n_used=4, n_inner=1408, normalized=False, shared_inner=5632, shared_gate=True
        ),
        "qwen3_moe": Experts(n_expert=128, n_used=8, n_inner=768),
        "gpt_oss": Experts(n_expert=32, n_used=4, n_inner=2880, router_bias=True),
    }
    for values, _ in PUBLISHED:
        assert {layer.experts for layer in read(values).layers} == {expected.get(values["model_type"])}


@pytest.mark.parametrize("key", ["head_dim", "layer_types", "num_experts_per_tok", "sliding_window", "rope_scaling"])
def test_what_gpt_oss_has_where_its_file_does_not_say(key: str) -> None:
    assert read(GPT_OSS_20B, key) == read(GPT_OSS_20B)
