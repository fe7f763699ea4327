"""The config.json of published checkpoints, as the hub has them: all keys are known, and the sizes are right."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import Settings, by_model_type, keys, model_config, settings_for

Values = dict[str, Any]
V4 = {"torch_dtype": "float16", "transformers_version": "4.21.0", "use_cache": True, "initializer_range": 0.02}
GPT2_KEYS = {
    **V4, "model_type": "gpt2", "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "bos_token_id": 50256, "eos_token_id": 50256,
}  # fmt: skip
PYTHIA_70M = {
    **V4, "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
    "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000,
    "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True, "vocab_size": 50304,
}  # fmt: skip
OPT_350M = {
    **V4, "model_type": "opt", "architectures": ["OPTForCausalLM"], "_remove_final_layer_norm": False,
    "activation_dropout": 0.0, "activation_function": "relu", "attention_dropout": 0.0, "bos_token_id": 2,
    "do_layer_norm_before": False, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 4096, "hidden_size": 1024,
    "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 2048, "num_attention_heads": 16,
    "num_hidden_layers": 24, "pad_token_id": 1, "prefix": "</s>", "vocab_size": 50272, "word_embed_proj_dim": 512,
}  # fmt: skip
BLOOM_560M = {
    **V4, "model_type": "bloom", "architectures": ["BloomForCausalLM"], "attention_dropout": 0.0,
    "apply_residual_connection_post_layernorm": False, "attention_softmax_in_fp32": True, "pad_token_id": 3,
    "bias_dropout_fusion": True, "bos_token_id": 1, "eos_token_id": 2, "hidden_dropout": 0.0, "unk_token_id": 0,
    "layer_norm_epsilon": 1e-5, "masked_softmax_fusion": True, "n_embed": 1024, "n_inner": None, "n_layer": 24,
    "num_attention_heads": 16, "offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048, "slow_but_exact": False,
    "skip_bias_add": True, "skip_bias_add_qkv": False, "vocab_size": 250880,
}  # fmt: skip
FALCON_7B = {
    **V4, "model_type": "falcon", "architectures": ["FalconForCausalLM"], "alibi": False, "attention_dropout": 0.0,
    "apply_residual_connection_post_layernorm": False, "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"},
    "bias": False, "bos_token_id": 11, "eos_token_id": 11, "hidden_dropout": 0.0, "hidden_size": 4544,
    "layer_norm_epsilon": 1e-5, "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71,
    "num_hidden_layers": 32, "num_kv_heads": 71, "parallel_attn": True, "vocab_size": 65024,
}  # fmt: skip
MPT_7B = {
    **V4, "model_type": "mpt", "architectures": ["MPTForCausalLM"], "d_model": 4096, "emb_pdrop": 0, "resid_pdrop": 0,
    "attn_config": {
        "alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "attn_type": "multihead_attention",
        "attn_uses_sequence_id": False, "clip_qkv": None, "prefix_lm": False, "qk_ln": False, "softmax_scale": None,
    },
    "auto_map": {"AutoConfig": "configuration_mpt.MPTConfig"}, "embedding_fraction": 1.0, "expansion_ratio": 4,
    "init_config": {"name": "kaiming_normal_", "init_nonlinearity": "relu"}, "init_device": "cpu",
    "learned_pos_emb": True, "logit_scale": None, "max_seq_len": 2048, "n_heads": 32, "n_layers": 32, "no_bias": True,
    "norm_type": "low_precision_layernorm", "tokenizer_name": "EleutherAI/gpt-neox-20b", "verbose": 0,
    "vocab_size": 50432,
}  # fmt: skip

PUBLISHED: dict[str, tuple[Values, int]] = {
    "distilgpt2": (
        {
            **GPT2_KEYS, "_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "n_ctx": 1024,
            "n_embd": 768, "n_head": 12, "n_layer": 6, "n_positions": 1024, "vocab_size": 50257,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        },
        81_912_576,
    ),
    "Cerebras-GPT-111M": (
        {
            **GPT2_KEYS, "activation_function": "gelu", "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 10,
            "n_positions": 2048, "reorder_and_upcast_attn": False, "scale_attn_by_inverse_layer_idx": False,
            "scale_attn_weights": True, "vocab_size": 50257,
        },
        111_050_496,
    ),
    "gpt-neo-125m": (
        {
            **V4, "model_type": "gpt_neo", "architectures": ["GPTNeoForCausalLM"], "activation_function": "gelu_new",
            "attention_dropout": 0, "attention_layers": ["global", "local"] * 6, "embed_dropout": 0,
            "attention_types": [[["global", "local"], 6]], "bos_token_id": 50256, "eos_token_id": 50256,
            "gradient_checkpointing": False, "hidden_size": 768, "intermediate_size": None, "num_heads": 12,
            "layer_norm_epsilon": 1e-5, "max_position_embeddings": 2048, "num_layers": 12, "resid_dropout": 0,
            "vocab_size": 50257, "window_size": 256,
        },
        125_198_592,
    ),
    "gpt-j-6b": (
        {
            **GPT2_KEYS, "model_type": "gptj", "architectures": ["GPTJForCausalLM"], "gradient_checkpointing": False,
            "n_embd": 4096, "n_head": 16, "n_inner": None, "n_layer": 28, "n_positions": 2048, "rotary": True,
            "rotary_dim": 64, "scale_attn_weights": True, "tie_word_embeddings": False,
            "tokenizer_class": "GPT2Tokenizer", "vocab_size": 50400,
        },
        6_050_882_784,
    ),
    "pythia-70m": (PYTHIA_70M, 70_426_624),
    "opt-125m": (
        {
            **OPT_350M, "do_layer_norm_before": True, "ffn_dim": 3072, "hidden_size": 768, "num_attention_heads": 12,
            "num_hidden_layers": 12, "word_embed_proj_dim": 768,
        },
        125_239_296 - 2 * 768,  # without the positions that are never read
    ),
    "opt-350m": (OPT_350M, 331_196_416 - 2 * 1024),
    "bloom-560m": (BLOOM_560M, 559_214_592),
    "mpt-7b": (MPT_7B, 6_649_286_656 + 65 * 4096),  # with biases of norms, which are 0
    "falcon-7b": (FALCON_7B, 6_921_720_704),
    "falcon-40b": (
        {
            **FALCON_7B, "hidden_size": 8192, "new_decoder_architecture": True, "num_attention_heads": 128,
            "num_hidden_layers": 60, "num_kv_heads": 8,
        },
        41_303_293_952,
    ),
    "falcon-rw-1b": (
        {
            **FALCON_7B, "alibi": True, "bias": True, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 2048,
            "multi_query": False, "num_attention_heads": 32, "num_hidden_layers": 24, "num_kv_heads": 32,
            "parallel_attn": False, "vocab_size": 50304,
        },
        1_311_625_216,
    ),
    "starcoder": (
        {
            **GPT2_KEYS, "model_type": "gpt_bigcode", "architectures": ["GPTBigCodeForCausalLM"], "bos_token_id": 0,
            "activation_function": "gelu_pytorch_tanh", "attention_softmax_in_fp32": True, "eos_token_id": 0,
            "inference_runner": 0, "max_batch_size": None, "max_sequence_length": None, "multi_query": True,
            "n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_layer": 40, "n_positions": 8192,
            "pad_key_length": True, "pre_allocate_kv_cache": False, "scale_attention_softmax_in_fp32": True,
            "scale_attn_weights": True, "validate_runner_input": True, "vocab_size": 49152,
        },
        15_517_456_384,
    ),
    "starcoder2-3b": (
        {
            **V4, "model_type": "starcoder2", "architectures": ["Starcoder2ForCausalLM"], "activation_function": "gelu",
            "attention_dropout": 0.1, "attention_softmax_in_fp32": True, "bos_token_id": 0, "embedding_dropout": 0.1,
            "eos_token_id": 0, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 3072, "intermediate_size": 12288,
            "layer_norm_epsilon": 1e-5, "max_position_embeddings": 16384, "mlp_type": "default",
            "norm_epsilon": 1e-5, "norm_type": "layer_norm", "num_attention_heads": 24, "num_hidden_layers": 30,
            "num_key_value_heads": 2, "residual_dropout": 0.1, "rope_theta": 999999.4420358813,
            "scale_attention_softmax_in_fp32": True, "scale_attn_weights": True, "sliding_window": 4096,
            "use_bias": True, "vocab_size": 49152,
        },
        3_030_371_328,
    ),
}  # fmt: skip


REQUIRED = {
    "model_type", "vocab_size", "hidden_size", "n_embd", "n_embed", "d_model", "n_layer", "n_layers", "num_layers",
    "num_hidden_layers", "n_head", "n_heads", "num_heads", "num_attention_heads", "n_positions", "max_seq_len",
    "max_position_embeddings", "intermediate_size", "ffn_dim", "rotary_dim", "attention_types",
}  # fmt: skip


def read(values: Values, **changes: Any) -> ModelConfig:
    """The configuration with some keys changed; a key set to ... is taken out."""
    settings = Settings({k: v for k, v in (values | changes).items() if v is not ...}, "config.json")
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name: str) -> None:
    values, n_params = PUBLISHED[name]
    assert read(values).n_params() == n_params


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_inverse(name: str) -> None:
    """Also of the family's own, where another says the same."""
    config = read(PUBLISHED[name][0])
    _, values = settings_for(config)
    assert read(values) == config
    own = by_model_type(Settings(PUBLISHED[name][0], "config.json")).settings(config)
    assert read(own) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_null_is_no_value(name: str) -> None:
    """Every key that is not a size may be null: transformers then takes the class's default."""
    values, _ = PUBLISHED[name]
    for key in values:
        if key not in REQUIRED:
            read(values, **{key: None})


def problem(values: Values, **changes: Any) -> str:
    """What a ConfigError says, or that there is none."""
    try:
        read(values, **changes)
    except ConfigError as error:
        return str(error)
    return "config.json is read"


ODD = (
    True, False, -1, 0, 1, 2**31, 2**70, 0.5, -0.0, math.nan, math.inf, "", "x", [], [[1]], [[["x"], 1]], {},
    {"a": [0]}, [[[["global"]], 1]], {"rope_type": [1], "factor": "y"}, {"alibi_bias_max": 1e308, "softmax_scale": -3},
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_odd_values_are_errors_that_name_the_file(name: str) -> None:
    values, _ = PUBLISHED[name]
    for key in {**values, "rope_parameters": None, "rope_scaling": None, "sliding_window": None}:
        for odd in ODD:
            assert "config.json" in problem(values, **{key: odd}), (key, odd)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt-neo-125m", {"attention_types": [[["global", "banded"], 6]]}, "attention_types is .*patterns of 'global'"),
        ("gpt-neo-125m", {"attention_types": [[["global"], 10**12]]}, "attention_types is"),
        ("gpt-neo-125m", {"attention_types": "local"}, "attention_types is 'local', but must be patterns"),
        ("gpt-neo-125m", {"attention_types": [[["global", "local"], 5]]}, r"for as many layers as num_layers \(12\)"),
        ("gpt-neo-125m", {"attention_layers": ["local"] * 12}, "attention_layers is .*what attention_types says"),
        ("gpt-j-6b", {"rotary_dim": None}, "rotary_dim is None, but must be a positive integer"),
        ("gpt-j-6b", {"rotary_dim": 300}, r"rope.dim must be even and at most head_dim \(256\)"),
        ("gpt-j-6b", {"rotary": False}, "rotary is False, but must be True"),
        ("pythia-70m", {"rope_theta": 500.0}, "rotary_emb_base is 10000, but must be 500.0, as rope_theta is"),
        ("pythia-70m", {"rope_parameters": {"rope_type": "wavelet"}}, "rope_type is 'wavelet'"),
        ("pythia-70m", {"num_attention_heads": 7}, r"hidden_size is 512, but must be a multiple of num_att"),
        ("pythia-70m", {"head_dim": 32}, "head_dim is 32, but must be 64"),
        ("pythia-70m", {"num_key_value_heads": 2}, r"num_key_value_heads is 2, but must be num_attention_heads \(8\)"),
        ("opt-125m", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm is True, but must be false"),
        ("opt-125m", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine is False"),
        ("bloom-560m", {"apply_residual_connection_post_layernorm": True}, "post_layernorm is True"),
        ("bloom-560m", {"n_inner": 5}, "n_inner is 5, but must be 4096"),
        ("bloom-560m", {"hidden_size": 512}, "n_embed is 1024, but must be 512, as hidden_size is"),
        ("mpt-7b", {"attn_config": {"alibi": False}}, "attn_config.alibi is False, but must be true"),
        ("mpt-7b", {"attn_config": {"qk_ln": True}}, "attn_config.qk_ln is True, but must be False"),
        ("mpt-7b", {"attn_config": {"clip_qkv": 6}}, "attn_config.clip_qkv is 6, but must be null"),
        ("mpt-7b", {"attn_config": {"attn_type": "grouped_query_attention"}}, "attn_type is 'grouped_query_attention'"),
        ("mpt-7b", {"attn_config": {"kv_n_heads": 8}}, r"kv_n_heads is 8, but must be n_heads \(32\)"),
        ("mpt-7b", {"d_model": 2**30, "n_heads": 2**30}, "n_head must be at most 65536 with ALiBi, not 1073741824"),
        ("mpt-7b", {"attn_config": {"new": 1}}, "the key 'attn_config.new'"),
        ("mpt-7b", {"no_bias": False}, "no_bias is False, but must be True"),
        ("mpt-7b", {"norm_type": "rmsnorm"}, "norm_type is 'rmsnorm'"),
        ("mpt-7b", {"logit_scale": "double"}, "logit_scale is 'double'"),
        ("falcon-40b", {"parallel_attn": False}, "parallel_attn is False, but must be true"),
        ("falcon-40b", {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn is 3, but must be 1 or 2"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn is 2, but must be 1 or absent"),
        ("falcon-rw-1b", {"num_kv_heads": 4}, "num_kv_heads is 4, but must be num_attention_heads"),
        ("starcoder", {"num_key_value_heads": 48}, "num_key_value_heads is 48, but must be 1, as multi_query says"),
        ("starcoder2-3b", {"norm_type": "rms_norm"}, "norm_type is 'rms_norm'"),
        ("starcoder2-3b", {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
    ],
)  # fmt: skip
def test_refused(name: str, changes: Values, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(PUBLISHED[name][0], **changes)


def test_what_a_key_means() -> None:
    def changed(name: str, **changes: Any) -> ModelConfig:
        return read(PUBLISHED[name][0], **changes)

    assert changed("pythia-70m", use_parallel_residual=False).branches == "sequential"
    newer = {"rope_theta": 500.0, "partial_rotary_factor": 0.5, "rope_type": "default"}
    rope = changed("pythia-70m", rotary_pct=..., rotary_emb_base=..., rope_parameters=newer).layers[0].rope
    assert rope is not None
    assert (rope.theta, rope.dim) == (500.0, 32)
    assert changed("mpt-7b", logit_scale="inv_sqrt_d_model").logit_scale == 4096**-0.5
    assert changed("mpt-7b", logit_scale=0.5).logit_scale == 0.5
    assert changed("mpt-7b", attn_config={"softmax_scale": 0.1}).layers[0].attn_scale == 0.1
    assert changed("mpt-7b", attn_config=...).layers[0].alibi_slopes[:2] == (2**-0.25, 2**-0.5)
    assert changed("falcon-40b", num_ln_in_parallel_attn=1).branches == "parallel_one_norm"
    assert changed("falcon-rw-1b").layers[0].alibi_slopes[3] == 0.5 * 64**-0.5
    assert changed("opt-350m", _remove_final_layer_norm=True) == read(PUBLISHED["opt-350m"][0])
    assert [layer.window for layer in changed("gpt-neo-125m").layers] == [None, 256] * 6
