"""config.json to ModelConfig: every spelling that is read, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pygpt.config import LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.errors import ConfigError
from pygpt.families import Settings, by_architecture, by_model_type, keys, model_config

GPT2: dict[str, Any] = {  # as the hub's config.json of GPT-2 124M
    "model_type": "gpt2", "activation_function": "gelu_new", "bos_token_id": 50256, "eos_token_id": 50256,
    "layer_norm_epsilon": 1e-05, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "vocab_size": 50257,
}  # fmt: skip
SMOLLM2: dict[str, Any] = {  # as the hub's config.json of SmolLM2-135M-Instruct
    "model_type": "llama", "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 576, "intermediate_size": 1536, "max_position_embeddings": 8192, "mlp_bias": False,
    "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "vocab_size": 49152,
}  # fmt: skip
GPT1: dict[str, Any] = {  # as the hub's config.json of GPT-1
    "model_type": "openai-gpt", "afn": "gelu", "layer_norm_epsilon": 1e-05, "n_ctx": 512, "n_embd": 768, "n_head": 12,
    "n_layer": 12, "n_positions": 512, "vocab_size": 40478, "predict_special_tokens": True, "n_special": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def read(values: dict[str, Any], **changes: Any) -> ModelConfig:
    """The configuration with some keys changed; a key set to ... is taken out."""
    settings = Settings({k: v for k, v in (values | changes).items() if v is not ...}, "config.json")
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    return config


INVERSE_LAYERS = tuple(LayerConfig(attn_scale=0.125 / (i + 1)) for i in range(12))


def field_of(config: ModelConfig, field: str) -> object:
    """A field of the model, or one in which all layers agree."""
    if hasattr(config, field):
        return getattr(config, field)
    (value,) = {getattr(layer, field) for layer in config.layers}
    return value


def test_gpt1() -> None:
    assert read(GPT1) == ModelConfig(
        n_vocab=40478, n_ctx=512, n_embd=768, n_head=12, n_kv_head=12, head_dim=64, n_inner=3072,
        norm="layer_norm", norm_eps=1e-5, activation="gelu_tanh", gated_mlp=False, qkv_bias=True, attn_out_bias=True,
        mlp_bias=True, learned_positions=True, layers=LayerConfig(attn_scale=0.125).repeated(12), tied_head=True,
        norm_placement="after_sum",
    )  # fmt: skip
    assert read(GPT1).n_params() == 116_534_784


def test_gpt2() -> None:
    assert read(GPT2) == ModelConfig(
        n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_kv_head=12, head_dim=64, n_inner=3072,
        norm="layer_norm", norm_eps=1e-5, activation="gelu_tanh", gated_mlp=False, qkv_bias=True, attn_out_bias=True,
        mlp_bias=True, learned_positions=True, layers=LayerConfig(attn_scale=0.125).repeated(12), tied_head=True,
        bos_id=50256, eos_ids=(50256,),
    )  # fmt: skip
    assert read(GPT2).n_params() == 124_439_808


def test_smollm2() -> None:
    assert read(SMOLLM2) == ModelConfig(
        n_vocab=49152, n_ctx=8192, n_embd=576, n_head=9, n_kv_head=3, head_dim=64, n_inner=1536,
        norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True, qkv_bias=False, attn_out_bias=False,
        mlp_bias=False, learned_positions=False,
        layers=LayerConfig(attn_scale=0.125, rope=Rope(theta=100000.0, dim=64)).repeated(30),
        tied_head=True, bos_id=1, eos_ids=(2,),
    )  # fmt: skip
    assert read(SMOLLM2).n_params() == 134_515_008


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"afn": ...}, "activation", "gelu_tanh"),
        ({"afn": "relu"}, "activation", "relu"),
        ({"afn": "silu"}, "activation", "silu"),
        ({"afn": "swish"}, "activation", "silu"),
        ({"n_embd": 24}, "n_inner", 96),
        ({"tie_word_embeddings": False}, "tied_head", False),
        ({"eos_token_id": 7}, "eos_ids", (7,)),
    ],
)
def test_gpt1_keys(changes: dict[str, Any], field: str, value: object) -> None:
    assert field_of(read(GPT1, **changes), field) == value


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"n_ctx": ...}, "n_ctx", 1024),
        ({"n_positions": ..., "n_ctx": 77}, "n_ctx", 77),
        ({"n_inner": 100}, "n_inner", 100),
        ({"n_inner": None}, "n_inner", 3072),
        ({"scale_attn_weights": False}, "attn_scale", 1.0),
        ({"scale_attn_by_inverse_layer_idx": True}, "layers", INVERSE_LAYERS),
        ({"reorder_and_upcast_attn": True}, "attn_scale", 0.125),
        ({"tie_word_embeddings": False}, "tied_head", False),
        ({"activation_function": "gelu"}, "activation", "gelu"),
        ({"activation_function": "gelu_fast"}, "activation", "gelu_tanh"),
        ({"activation_function": "gelu_pytorch_tanh"}, "activation", "gelu_tanh"),
        ({"activation_function": "relu"}, "activation", "relu"),
        ({"activation_function": "swish"}, "activation", "silu"),
        ({"eos_token_id": [1, 2]}, "eos_ids", (1, 2)),
        ({"eos_token_id": None}, "eos_ids", ()),
        ({"vocab_size": 1000}, "eos_ids", ()),
        ({"vocab_size": 1000}, "bos_id", None),
    ],
)
def test_gpt2_keys(changes: dict[str, Any], field: str, value: object) -> None:
    assert field_of(read(GPT2, **changes), field) == value


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"num_key_value_heads": ...}, "n_kv_head", 9),
        ({"head_dim": 32}, "head_dim", 32),
        ({"head_dim": 32}, "attn_scale", 32**-0.5),
        ({"head_dim": 32}, "rope", Rope(theta=100000.0, dim=32)),
        ({"tie_word_embeddings": ...}, "tied_head", False),
        ({"attention_bias": True}, "qkv_bias", True),
        ({"attention_bias": True}, "attn_out_bias", True),
        ({"mlp_bias": True}, "mlp_bias", True),
        ({"hidden_act": "gelu"}, "activation", "gelu"),
        ({"rope_theta": ...}, "rope", Rope(theta=10000.0, dim=64)),
        (
            {"rope_theta": ..., "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
            "rope",
            Rope(theta=5e5, dim=64),
        ),
        ({"rope_parameters": {"rope_type": "default"}}, "rope", Rope(theta=1e5, dim=64)),
        (
            {"rope_scaling": {"type": "linear", "factor": 4}},
            "rope",
            Rope(theta=1e5, dim=64, scaling=RopeScaling(kind="linear", factor=4.0)),
        ),
        (
            {"rope_theta": ..., "rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
            "rope",
            Rope(theta=5e5, dim=64, scaling=RopeScaling(kind="llama3", factor=32.0)),
        ),
        (
            {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 4096}},
            "rope",
            Rope(theta=1e5, dim=64, scaling=RopeScaling(kind="llama3", factor=32.0, original_n_ctx=4096)),
        ),
    ],
)
def test_llama_keys(changes: dict[str, Any], field: str, value: object) -> None:
    assert field_of(read(SMOLLM2, **changes), field) == value


@pytest.mark.parametrize("key", ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer"])
def test_gpt2_missing_key(key: str) -> None:
    with pytest.raises(ConfigError, match=f"config.json lacks the key '{key}'"):
        read(GPT2, n_ctx=..., **{key: ...})


@pytest.mark.parametrize("key", ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer"])
def test_gpt1_missing_key(key: str) -> None:
    with pytest.raises(ConfigError, match=f"config.json lacks the key '{key}'"):
        read(GPT1, **{key: ...})


@pytest.mark.parametrize(
    "key",
    ["vocab_size", "max_position_embeddings", "hidden_size", "num_attention_heads", "num_hidden_layers",
     "intermediate_size", "rms_norm_eps"],
)  # fmt: skip
def test_llama_missing_key(key: str) -> None:
    with pytest.raises(ConfigError, match=f"config.json lacks the key '{key}'"):
        read(SMOLLM2, **{key: ...})


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (
            GPT2,
            {"activation_function": "quick_gelu"},
            "activation_function is 'quick_gelu', but must be one of gelu, gelu_new",
        ),
        (GPT1, {"afn": "gelu_new"}, "afn is 'gelu_new', but must be one of gelu, relu, silu, swish"),
        (GPT1, {"n_head": 5}, r"n_embd is 768, but must be a multiple of n_head \(5\)"),
        (GPT2, {"activation_function": 3}, "activation_function is 3"),
        (GPT2, {"n_head": 5}, r"n_embd is 768, but must be a multiple of n_head \(5\)"),
        (GPT2, {"n_layer": 0}, "n_layer is 0, but must be a positive integer"),
        (GPT2, {"n_layer": "12"}, "n_layer is '12', but must be a positive integer"),
        (GPT2, {"n_layer": True}, "n_layer is True"),
        (GPT2, {"n_layer": 12.0}, "n_layer is 12.0"),
        (GPT2, {"n_layer": 2**40}, r"config\.json: n_layer must be a positive integer, at most 65536"),
        (GPT2, {"layer_norm_epsilon": -1.0}, "layer_norm_epsilon is -1.0, but must be a positive number"),
        (GPT2, {"layer_norm_epsilon": math.nan}, "layer_norm_epsilon is nan"),
        (GPT2, {"layer_norm_epsilon": math.inf}, "layer_norm_epsilon is inf"),
        (GPT2, {"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 1"),
        (GPT2, {"scale_attn_weights": "yes"}, "scale_attn_weights is 'yes', but must be true or false"),
        (GPT2, {"eos_token_id": "x"}, "eos_token_id is 'x', but must be a token id"),
        (GPT2, {"model_type": "bert"}, "model_type is 'bert', but must be one of .*openai-gpt, gpt2, .*llama"),
        (GPT2, {"model_type": ["gpt2"]}, "model_type is"),
        (GPT2, {"model_type": ...}, "lacks the key 'model_type'"),
        (SMOLLM2, {"num_key_value_heads": 2}, r"config\.json: n_head \(9\) must be a multiple of n_kv_head \(2\)"),
        (
            SMOLLM2,
            {"num_attention_heads": 7},
            r"hidden_size is 576, but must be a multiple of num_attention_heads \(7\)",
        ),
        (SMOLLM2, {"head_dim": 33}, r"config\.json: rope.dim must be even"),
        (
            SMOLLM2,
            {"rope_scaling": {"type": "mrope", "factor": 2.0}},
            "rope_scaling.type is 'mrope', but must be one of default, linear, dynamic, llama3, yarn, longrope",
        ),
        (SMOLLM2, {"rope_scaling": {"type": "linear"}}, "lacks the key 'rope_scaling.factor'"),
        (SMOLLM2, {"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor is 0"),
        (
            SMOLLM2,
            {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}},
            r"config\.json: .*low_freq_factor \(1\.0\) must be below high_freq_factor",
        ),
        (SMOLLM2, {"rope_scaling": "linear"}, "rope_scaling is 'linear', but must be a table"),
        (
            SMOLLM2,
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor is 0.5, but must be 1",
        ),
    ],
)
def test_refused(values: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(values, **changes)
    assert "config.json" in str(caught.value)


def test_unknown_gguf_architecture() -> None:
    with pytest.raises(
        ConfigError, match=r"x\.gguf: general\.architecture is 'mamba', but must be one of .*gpt2, .*llama"
    ):
        by_architecture("mamba", "x.gguf")
