"""The config.json of published checkpoints of Llama's kind, as the hub has them, and what their keys say."""

from __future__ import annotations

from typing import Any

import pytest

from pygpt.config import ModelConfig, Rope, RopeScaling
from pygpt.errors import ConfigError
from pygpt.families import Settings, by_architecture, by_model_type, keys, model_config, settings_for

Values = dict[str, Any]
V4 = {"torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True, "initializer_range": 0.02,
      "attention_dropout": 0.0}  # fmt: skip
MISTRAL_7B = {
    **V4, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
QWEN2_05B = {
    **V4, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643,
    "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 21, "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": True, "use_sliding_window": False, "use_mrope": False, "vocab_size": 151936,
}  # fmt: skip
QWEN3_06B = {
    **V4, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": False,
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
    "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_scaling": None,
    "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
SMOLLM3_3B = {
    **V4, "model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False,
    "bos_token_id": None, "eos_token_id": 128012, "pad_token_id": 128004, "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 11008, "layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536,
    "max_window_layers": 28, "mlp_bias": False, "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4, "pretraining_tp": 2,
    "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None,
    "use_sliding_window": False, "vocab_size": 128256,
}  # fmt: skip
OLMO2_1B = {
    **V4, "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "attention_bias": False,
    "eos_token_id": 100257, "pad_token_id": 100277, "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 16, "num_hidden_layers": 16,
    "num_key_value_heads": 16, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 500000,
    "tie_word_embeddings": False, "vocab_size": 100352,
}  # fmt: skip
GRANITE_2B = {
    **V4, "model_type": "granite", "architectures": ["GraniteForCausalLM"], "attention_bias": False,
    "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "logits_scaling": 8.0,
    "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 40,
    "num_key_value_heads": 8, "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-5,
    "rope_scaling": None, "rope_theta": 10000000.0, "tie_word_embeddings": True, "vocab_size": 49159,
}  # fmt: skip
PHI_2 = {
    **V4, "model_type": "phi", "architectures": ["PhiForCausalLM"], "bos_token_id": 50256, "embd_pdrop": 0.0,
    "eos_token_id": 50256, "hidden_act": "gelu_new", "hidden_size": 2560, "intermediate_size": 10240,
    "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 32, "partial_rotary_factor": 0.4, "qk_layernorm": False, "resid_pdrop": 0.1,
    "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 51200,
}  # fmt: skip
PHI_3_MINI = {
    **V4, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "attention_bias": False,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "bos_token_id": 1, "embd_pdrop": 0.0,
    "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
    "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-5,
    "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False,
    "vocab_size": 32064,
}  # fmt: skip
PHI_4_MINI = {
    **PHI_3_MINI, "bos_token_id": 199999, "eos_token_id": 199999, "full_attn_mod": 1, "interpolate_factor": 1,
    "lm_head_bias": False, "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 24,
    "num_key_value_heads": 8, "pad_token_id": 199999, "partial_rotary_factor": 0.75, "sliding_window": 262144,
    "rope_scaling": {"long_factor": [1.0 + i for i in range(48)], "short_factor": [1.0] * 48, "type": "longrope"},
    "tie_word_embeddings": True, "vocab_size": 200064,
}  # fmt: skip
GEMMA_2B = {
    **V4, "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "attention_bias": False, "bos_token_id": 2,
    "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2048, "intermediate_size": 16384, "max_position_embeddings": 8192, "num_attention_heads": 8,
    "num_hidden_layers": 18, "num_key_value_heads": 1, "pad_token_id": 0, "rms_norm_eps": 1e-6, "rope_scaling": None,
    "rope_theta": 10000.0, "vocab_size": 256000,
}  # fmt: skip
GEMMA2_2B = {
    **V4, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attention_bias": False,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
    "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
    "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
    "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000,
}  # fmt: skip
GEMMA3_270M = {
    **V4, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "_sliding_window_pattern": 6,
    "attention_bias": False, "attn_logit_softcapping": None, "bos_token_id": 2, "eos_token_id": 1,
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640,
    "intermediate_size": 2048, "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "max_position_embeddings": 32768, "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1,
    "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000.0,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": 512, "use_bidirectional_attention": False,
    "vocab_size": 262144,
}  # fmt: skip
GEMMA3_4B = {
    **V4, "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999,
    "eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144, "mm_tokens_per_image": 256,
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024, "use_cache": True,
    },
    "vision_config": {"hidden_size": 1152, "image_size": 896, "model_type": "siglip_vision_model"},
}  # fmt: skip


def read(values: Values, **changes: Any) -> ModelConfig:
    """The configuration with some keys changed; a key set to ... is taken out."""
    settings = Settings({k: v for k, v in (values | changes).items() if v is not ...}, "config.json")
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    return config


PUBLISHED = [
    (MISTRAL_7B, 7_241_732_096), (QWEN2_05B, 494_032_768), (QWEN3_06B, 596_049_920), (SMOLLM3_3B, 3_075_098_624),
    (OLMO2_1B, 1_484_916_736), (GRANITE_2B, 2_533_539_840), (PHI_2, 2_779_683_840), (PHI_3_MINI, 3_821_079_552),
    (PHI_4_MINI, 3_836_021_760), (GEMMA_2B, 2_506_172_416), (GEMMA2_2B, 2_614_341_888), (GEMMA3_270M, 268_098_176),
    (GEMMA3_4B, 3_880_263_168),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "n_params"), PUBLISHED, ids=lambda v: v["model_type"] if isinstance(v, dict) else ""
)
def test_sizes_and_what_is_written_back(values: Values, n_params: int) -> None:
    config = read(values)
    assert config.n_params() == n_params
    own = {"gemma3": "gemma3_text"}.get(values["model_type"], values["model_type"])
    assert settings_for(config, values["model_type"])[1]["model_type"] == own
    if values is PHI_3_MINI:  # whose computation Mistral's keys say as well
        assert settings_for(config)[1]["model_type"] == "mistral"


def rope_of(values: Values, layer: int = 0, **changes: Any) -> Rope:
    rope = read(values, **changes).layers[layer].rope
    assert rope is not None
    return rope


def test_layers() -> None:
    assert {layer.window for layer in read(MISTRAL_7B).layers} == {4096}
    assert {layer.window for layer in read(MISTRAL_7B, sliding_window=None).layers} == {None}
    assert {layer.window for layer in read(MISTRAL_7B, sliding_window=...).layers} == {4096}
    windows = [layer.window for layer in read(QWEN2_05B, use_sliding_window=True, max_window_layers=22).layers]
    assert windows == [None] * 22 + [32768] * 2
    assert [layer.rope is not None for layer in read(SMOLLM3_3B).layers] == [True, True, True, False] * 9
    assert [layer.rope is not None for layer in read(SMOLLM3_3B, no_rope_layers=...).layers][:4] == [True] * 3 + [False]
    assert [layer.window for layer in read(GEMMA2_2B).layers] == [4096, None] * 13
    assert {layer.score_cap for layer in read(GEMMA2_2B).layers} == {50.0}
    assert {layer.score_cap for layer in read(GEMMA2_2B, attn_logit_softcapping=...).layers} == {50.0}
    assert {layer.score_cap for layer in read(GEMMA2_2B, attn_logit_softcapping=None).layers} == {None}
    gemma3 = read(GEMMA3_270M, layer_types=...)
    assert [layer.window for layer in gemma3.layers] == ([512] * 5 + [None]) * 3
    assert [layer.rope.theta for layer in gemma3.layers if layer.rope] == ([1e4] * 5 + [1e6]) * 3
    assert read(GEMMA3_270M) == gemma3
    images = read(GEMMA3_4B)
    assert rope_of(GEMMA3_4B, 5).scaling == RopeScaling(kind="linear", factor=8.0)
    assert rope_of(GEMMA3_4B, 4).scaling is None
    assert (images.n_vocab, images.n_head, images.head_dim, images.eos_ids) == (262208, 8, 256, (1, 106))


def test_factors_and_caps() -> None:
    granite = read(GRANITE_2B)
    assert granite.layers[0].attn_scale == 0.015625
    assert (granite.embed_scale, granite.branch_scale, granite.logit_scale) == (12.0, 0.22, 0.125)
    assert read(GEMMA2_2B).logit_cap == 30.0
    assert read(GEMMA2_2B).layers[0].attn_scale == 1 / 16
    assert read(GEMMA2_2B, query_pre_attn_scalar=144).layers[0].attn_scale == 1 / 12
    assert read(GEMMA_2B).embed_scale == 2048**0.5
    assert read(GEMMA_2B).activation == "gelu_tanh"


@pytest.mark.parametrize(
    ("architecture", "n_embd", "n_layer", "scalar"),
    [("gemma2", 4608, 46, 144), ("gemma2", 3584, 42, 128), ("gemma3", 5376, 62, 168), ("gemma3", 3840, 48, 128)],
)
def test_gguf_leaves_out_the_scale_of_gemma(architecture: str, n_embd: int, n_layer: int, scalar: float) -> None:
    """Published config.json of 27B have these numbers; the others have the width of a head."""
    known = {
        "hidden_size": n_embd,
        "num_hidden_layers": n_layer,
        "num_attention_heads": 32,
        "head_dim": 128,
        "sliding_window": 1024,
    }
    gguf = by_architecture(architecture, "x.gguf")[1]
    assert gguf.unsaid(Settings(known, "x.gguf"), ()) == {"query_pre_attn_scalar": scalar}


def test_parts_of_a_head_turn() -> None:
    assert rope_of(PHI_2).dim == 32
    assert rope_of(PHI_2, partial_rotary_factor=...).dim == 40
    assert rope_of(PHI_2, partial_rotary_factor=..., rope_parameters={"partial_rotary_factor": 0.4}).dim == 32
    assert rope_of(PHI_4_MINI).dim == 96


def test_longrope_of_phi() -> None:
    config = read(PHI_4_MINI)
    assert (config.n_ctx, config.max_n_ctx) == (4096, 131072)
    scaling = rope_of(PHI_4_MINI).scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_n_ctx) == ("longrope", 32.0, 4096)
    older = PHI_4_MINI["rope_scaling"] | {"type": "su"}
    assert read(PHI_4_MINI, rope_scaling=older) == config
    newer = PHI_4_MINI["rope_scaling"] | {"rope_type": "longrope", "rope_theta": 10000.0, "type": None}
    assert read(PHI_4_MINI, rope_scaling=..., rope_theta=..., rope_parameters=newer) == config


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768)),
        ({"type": "yarn", "rope_type": None}, RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768)),
        ({"factor": None, "original_max_position_embeddings": 8192},
         RopeScaling(kind="yarn", factor=4.0, original_n_ctx=8192)),
        ({"original_max_position_embeddings": None}, RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768)),
        ({"attention_factor": 1.25}, RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768, attention_factor=1.25)),
        ({"mscale": 1.0, "mscale_all_dim": 1.0},
         RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768, attention_factor=1.0)),
        ({"mscale": 0.7, "mscale_all_dim": 0}, RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768)),
        ({"beta_fast": 64, "beta_slow": 2, "truncate": False},
         RopeScaling(kind="yarn", factor=4.0, original_n_ctx=32768, beta_fast=64.0, beta_slow=2.0, truncate=False)),
        ({"rope_type": "dynamic", "original_max_position_embeddings": None},
         RopeScaling(kind="dynamic", factor=4.0, original_n_ctx=32768)),
    ],
)  # fmt: skip
def test_stretches(changes: Values, expected: RopeScaling) -> None:
    assert rope_of(QWEN2_05B, rope_scaling=YARN | changes).scaling == expected


SLIDING = {"layer_types": ["sliding_attention"] * 24}


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (MISTRAL_7B, {"layer_types": ["full_attention"] * 32}, "the key 'layer_types'"),
        (MISTRAL_7B, {"sliding_window": 0}, "sliding_window is 0, but must be a positive integer"),
        (MISTRAL_7B, {"attention_bias": True}, "the key 'attention_bias'"),
        (QWEN2_05B, SLIDING, "layer_types is .* full_attention in all layers, as use_sliding_window is false"),
        (QWEN2_05B, {"layer_types": ["chunked_attention"] * 24}, "list of 24, of sliding_attention or full_"),
        (QWEN2_05B, {"layer_types": ["full_attention"]}, "layer_types is .*, but must be a list of 24"),
        (QWEN2_05B, {"max_window_layers": "x"}, "max_window_layers is 'x'"),
        (QWEN2_05B, {"use_mrope": True}, "use_mrope is True, but must be False"),
        (QWEN2_05B, {"rope_scaling": YARN | {"factor": 0.5}}, "factor must be at least 1"),
        (QWEN2_05B, {"rope_scaling": YARN | {"beta": 3}}, "the key 'rope_scaling.beta'"),
        (QWEN2_05B, {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 9}},
         r"original_max_position_embeddings is 9, but must be max_position_embeddings \(32768\)"),
        (QWEN2_05B, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, but must be 1"),
        (SMOLLM3_3B, {"no_rope_layers": [1, 2] * 18}, "no_rope_layers is .*, but must be a list of 36"),
        (SMOLLM3_3B, {"layer_types": ["sliding_attention"] * 36, "sliding_window": 9}, "use_sliding_window is false"),
        (GRANITE_2B, {"logits_scaling": 0}, "logits_scaling is 0, but must be a positive number"),
        (OLMO2_1B, {"clip_qkv": 8.0}, "the key 'clip_qkv'"),
        (PHI_2, {"qk_layernorm": True}, "qk_layernorm is True, but must be False"),
        (PHI_3_MINI, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "'linear', but must be one of default"),
        (PHI_4_MINI, {"rope_scaling": PHI_4_MINI["rope_scaling"] | {"long_factor": [1.0]}},
         r"rope_scaling.long_factor is \[1.0\], but must be a list of 48 positive numbers"),
        (PHI_4_MINI, {"max_position_embeddings": 100, "original_max_position_embeddings": 200}, "at most max_pos"),
        (GEMMA_2B, {"hidden_activation": "silu"}, "hidden_activation is 'silu', but must be 'gelu_pytorch_tanh'"),
        (GEMMA_2B, {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        (GEMMA3_270M, {"attn_logit_softcapping": 50.0}, "this architecture does not cap scores"),
        (GEMMA3_270M, {"rope_parameters": {"full_attention": {"rope_type": "su"}}},
         "rope_parameters.full_attention.rope_type is 'su'"),
        (GEMMA3_4B, {"text_config": None}, "lacks the table 'text_config'"),
        (GEMMA3_4B, {"text_config": GEMMA3_4B["text_config"] | {"new": 1}}, "the key 'text_config.new'"),
    ],
)  # fmt: skip
def test_refused(values: Values, changes: Values, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(values, **changes)
    assert "config.json" in str(caught.value)
