"""No key of a configuration is passed over: it is used, known to be harmless, or an error that names it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from pygpt import checkpoint
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import Settings, families, keys, model_config

COMMON: dict[str, Any] = {  # what transformers 4.57 and 5.24 write for any model, with their own defaults
    "return_dict": True, "output_hidden_states": False, "output_attentions": False, "torchscript": False,
    "dtype": None, "torch_dtype": "bfloat16", "pruned_heads": {}, "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False, "is_decoder": False, "cross_attention_hidden_size": None,
    "add_cross_attention": False, "tie_encoder_decoder": False, "architectures": None, "finetuning_task": None,
    "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "task_specific_params": None, "problem_type": None,
    "tokenizer_class": None, "prefix": None, "pad_token_id": None, "sep_token_id": None,
    "decoder_start_token_id": None, "max_length": 20, "min_length": 0, "do_sample": False, "early_stopping": False,
    "num_beams": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0,
    "length_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None,
    "num_return_sequences": 1, "output_scores": False, "return_dict_in_generate": False, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "remove_invalid_values": False, "exponential_decay_length_penalty": None,
    "suppress_tokens": None, "begin_suppress_tokens": None, "num_beam_groups": 1, "diversity_penalty": 0.0,
    "_name_or_path": "", "_model_name_or_path": "", "transformers_version": "4.57.6", "tf_legacy_loss": False,
    "use_bfloat16": False,
    "_attn_implementation_autoset": True, "use_cache": True, "initializer_range": 0.02,
}  # fmt: skip
GPT: dict[str, Any] = {  # GPT-1 and GPT-2
    "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "summary_type": "cls_index", "summary_use_proj": True,
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "n_ctx": 5,
}  # fmt: skip
GPT2: dict[str, Any] = {
    **GPT, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
    "gradient_checkpointing": False, "output_past": True, "_num_labels": 1,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "pretraining_tp": 2, "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "rope_scaling": None,
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "is_llama_config": True,
    "rope_interleaved": False, "max_sequence_length": 16, "sliding_window": 16, "layer_types": ["full_attention"] * 2,
    "unsloth_version": "2024.12", "unsloth_fixed": True, "partial_rotary_factor": 1.0, "is_causal": True,
}  # fmt: skip
GENERATION: dict[str, Any] = {  # of a chat model, with other defaults of transformers 4.57 and 5.24
    "_from_model_config": True, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 2, "do_sample": True,
    "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": None, "repetition_penalty": 1.1, "max_length": 4096,
    "max_new_tokens": 512, "transformers_version": "4.45.0", "guidance_scale": None, "token_healing": False,
    "cache_implementation": None, "is_assistant": False, "num_assistant_tokens": 20, "disable_compile": False,
    "num_assistant_tokens_schedule": "constant", "assistant_lookbehind": 10, "target_lookbehind": 10,
    "encoder_repetition_penalty": 1.0, "constraints": None, "force_words_ids": None, "use_mtp": None,
}  # fmt: skip


def test_what_transformers_writes_is_read(tmp_path: Path, gpt2: Any, llama: Any) -> None:
    for model, extra in ((gpt2, GPT2), (llama, LLAMA)):
        plain, _, _ = checkpoint.read(model.write(tmp_path / "plain"))
        model.config |= COMMON | extra
        folder = model.write(tmp_path / "full")
        assert checkpoint.read(folder)[0] == plain
    (folder / "generation_config.json").write_text(json.dumps(GENERATION), encoding="utf-8")
    config, _, _ = checkpoint.read(folder)
    assert (config.bos_id, config.eos_ids) == (1, (2, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"router_jitter": 0.5}, r"the key 'router_jitter' \(its value is 0\.5\) is none that pygpt knows"),
        ({"is_causal": False}, "is_causal is False, but must be True: pygpt runs decoders"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True, but must be False"),
        ({"add_cross_attention": True}, "add_cross_attention is True, but must be False"),
        ({"pruned_heads": {"0": [1]}}, r"pruned_heads is \{'0': \[1\]\}, but must be \{\}"),
        ({"prefix": "Once"}, "prefix is 'Once', but must be ''"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is .*, but must be absent: .* not quantised"),
        ({"auto_map": {"AutoModel": "x.py"}}, "auto_map is .* Python code beside the checkpoint"),
        ({"bad_words_ids": [[3]]}, r"bad_words_ids is \[\[3\]\], but must be \[\]: pygpt's sampling has no such rule"),
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 2}}, "disagree"),
        ({"rope_parameters": {"rope_theta": 7}}, r"rope_theta is 5000.0, but must be 7.0, as rope_parameters.rope_th"),
        ({"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 2.0}}, "rope_scaling.type is 'linear'"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "mscale": 1}}, "the key 'rope_scaling.mscale'"),
        ({"rope_scaling": {"type": "default", "factor": 2}}, "rope_scaling.factor is 2, but must be 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, but must be 1"),
        ({"rope_interleaved": True}, "rope_interleaved is True, but must be false"),
        ({"sliding_window": 15}, r"sliding_window is 15, but must be null, or no less than max_position_emb.* \(16\)"),
        ({"sliding_window": "x"}, "sliding_window is 'x'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is"),
        ({"max_sequence_length": 8}, r"max_sequence_length is 8, but must be max_position_embeddings \(16\)"),
    ],
)
def test_what_llama_refuses(tmp_path: Path, llama: Any, changes: dict[str, Any], message: str) -> None:
    llama.config |= changes
    folder = llama.write(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        checkpoint.read(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_ctx": 4}, r"n_ctx is 4, but must be n_positions \(5\)"),
        ({"rope_theta": 1e4}, "the key 'rope_theta'"),
        ({"sliding_window": 8}, "the key 'sliding_window'"),
    ],
)
def test_what_gpt2_refuses(tmp_path: Path, gpt2: Any, changes: dict[str, Any], message: str) -> None:
    gpt2.config |= changes
    with pytest.raises(ConfigError, match=message):
        checkpoint.read(gpt2.write(tmp_path))


def test_what_gpt1_refuses() -> None:
    (gpt1,) = (family for family in families() if "openai-gpt" in family.model_types)
    sizes = {"n_embd": 8, "n_head": 2, "vocab_size": 9, "n_positions": 4, "n_layer": 1}
    for changes, message in (({"n_ctx": 3}, "n_ctx is 3"), ({"n_inner": 16}, "n_inner is 16, but must be 4 n_embd")):
        with pytest.raises(ConfigError, match=message):
            model_config(gpt1, Settings(sizes | changes, "config.json"))
    settings = Settings(sizes | {"n_special": 3}, "config.json")
    model_config(gpt1, settings)
    with pytest.raises(ConfigError, match="n_special is 3, but must be 0"):
        keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **gpt1.harmless}, "config.json")


def test_both_tables_of_rotary_settings(tmp_path: Path, llama: Any) -> None:
    linear = {"rope_type": "linear", "factor": 2.0}
    llama.config["rope_scaling"] = linear | {"type": "linear"}
    one, _, _ = checkpoint.read(llama.write(tmp_path / "one"))
    llama.config["rope_parameters"] = linear | {"rope_theta": 5000.0}
    assert checkpoint.read(llama.write(tmp_path / "both"))[0] == one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelet": 1}, "the key 'wavelet'"),
        ({"suppress_tokens": [3]}, r"suppress_tokens is \[3\], but must be \[\]"),
        ({"sequence_bias": {"3": 1.0}}, "sequence_bias"),
        ({"forced_bos_token_id": 1}, "forced_bos_token_id is 1, but must be absent"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
    ],
)
def test_what_generation_config_refuses(tmp_path: Path, llama: Any, changes: dict[str, Any], message: str) -> None:
    folder = llama.write(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        checkpoint.read(folder)


def test_an_index_with_other_keys(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = {"metadata": {"total_size": 9}, "weight_map": dict.fromkeys(gpt2.tensors, "one.safetensors")}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")
    checkpoint.read(folder)
    checkpoint.read(path)
    path.write_text(json.dumps(index | {"shift": 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"index\.json: the key 'shift'"):
        checkpoint.read(folder)


def test_a_saved_checkpoint_with_other_keys(tmp_path: Path) -> None:
    source = checkpoint.locate("tiny")
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")
    table = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"int4_group": 32}
    (tmp_path / "config.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds the key 'int4_group'; this version of pygpt reads model_type"):
        checkpoint.read(tmp_path)


# GGUF


HARMLESS: dict[str, Any] = {
    "general.type": "model", "general.name": "x", "general.license.link": "x", "general.base_model.0.name": "x",
    "general.quantization_version": 2, "general.file_type": 7, "quantize.imatrix.file": "x", "split.count": 0,
    "mradermacher.quantized_by": "x", "llama.expert_count": 0, "llama.attention.causal": True, "split.no": 0,
    "llama.attention.value_length": 4, "llama.attention.max_alibi_bias": 0.0, "llama.attention.clamp_kqv": 0.0,
    "llama.attention.scale": 0.5, "llama.rope.scaling.finetuned": False, "llama.rope.scaling.yarn_beta_fast": 32.0,
    "llama.attention.key_length_swa": 4, "llama.rope.dimension_count_swa": 4, "llama.rope.scaling.attn_factor": 1.0,
    "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 1.0,
    "llama.attention.sliding_window": 0, "llama.tensor_data_layout": "Meta AI original pth", "llama.logit_scale": 1.0,
}  # fmt: skip


def test_a_split_file(writer: Any, tmp_path: Path, llama: Any) -> None:
    for count in (2, [1, 1]):
        with pytest.raises(CheckpointError, match=r"split.count is .*, so this is one part of a model"):
            checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, {"split.count": count}))


def test_metadata_that_changes_nothing(writer: Any, tmp_path: Path, llama: Any) -> None:
    plain, _, _ = checkpoint.read(writer.write_llama(tmp_path / "a.gguf", llama))
    assert checkpoint.read(writer.write_llama(tmp_path / "b.gguf", llama, HARMLESS))[0] == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.attention.causal": False}, "llama.attention.causal is False, but must be True"),
        ({"llama.attention.clamp_kqv": 8.0}, "llama.attention.clamp_kqv is 8.0, but must be 0"),
        ({"llama.attention.max_alibi_bias": 8.0}, "llama.attention.max_alibi_bias is 8.0, but must be 0"),
        ({"llama.attention.scale": 0.25}, "llama.attention.scale is 0.25, but must be 0, or 0.5, by"),
        ({"llama.attention.value_length": 8}, "llama.attention.value_length is 8, but must be 4"),
        ({"llama.logit_scale": 2.0}, "llama.logit_scale is 2.0, but must be 0 or 1: this family has no such factor"),
        ({"llama.swin_norm": True}, r"the key 'llama.swin_norm' \(its value is True\) is none that pygpt knows"),
        ({"llama.rope.scaling.yarn_log_multiplier": 0.1}, "rope.scaling.yarn_log_multiplier is 0.1, but must be 0"),
        (
            {"llama.rope.scaling.type": "none", "llama.rope.scaling.attn_factor": 2.0},
            "attn_factor is 2.0, but must be 1",
        ),
        ({"gpt2.context_length": 8}, "the key 'gpt2.context_length'"),
        ({"clip.has_vision_encoder": True}, "the key 'clip.has_vision_encoder'"),
        ({"general.type": "adapter"}, "general.type is 'adapter', but must be 'model'"),
        ({"general.quantization_version": 1}, "general.quantization_version is 1, but must be 2"),
        ({"llama.rope.scale_linear": 2.0, "llama.rope.scaling.factor": 4.0}, "scale_linear is 2.0, but must be 4.0"),
        ({"llama.rope.scaling.factor": "4"}, "llama.rope.scaling.factor is '4', but must be a number"),
        ({"llama.rope.scale_linear": [4]}, "llama.rope.scale_linear is .*, but must be a number"),
        *(
            ({f"llama.{key}": [4, 4]}, rf"llama.{key} is \[4, 4\]")
            for key in (
                "attention.key_length",
                "attention.value_length",
                "rope.dimension_count",
                "rope.scaling.type",
                "attention.scale",
                "expert_count",
                "attention.causal",
                "context_length",
                "rope.scaling.factor",
            )
        ),
        ({"general.type": [1, 2]}, r"general.type is \[1, 2\]"),
    ],
)
def test_metadata_that_changes_something(
    writer: Any, tmp_path: Path, llama: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, changes))
    assert "x.gguf" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"llama.rope.scaling.factor": 4.0}, 4.0),
        ({"llama.rope.scale_linear": 4.0}, 4.0),
        ({"llama.rope.scale_linear": 4.0, "llama.rope.scaling.factor": 4.0}, 4.0),
        ({"llama.rope.scale_linear": 4.0, "llama.rope.scaling.type": "linear"}, 4.0),
        ({"llama.rope.scaling.factor": 4.0, "llama.rope.scaling.type": "none"}, None),
        ({"llama.rope.scaling.factor": 0.0}, None),
        ({"llama.rope.scaling.factor": 4.0, "llama.rope.scaling.original_context_length": 4}, 4.0),
    ],
)
def test_the_stretch_of_rotary_frequencies(
    writer: Any, tmp_path: Path, llama: Any, changes: dict[str, Any], factor: float | None
) -> None:
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": factor}
    expected, _, _ = checkpoint.read(writer.write_llama(tmp_path / "a.gguf", llama, {} if factor is None else linear))
    assert checkpoint.read(writer.write_llama(tmp_path / "b.gguf", llama, changes))[0] == expected


def test_a_name_that_is_not_utf8(writer: Any, tmp_path: Path, llama: Any) -> None:
    """Latin-1 in what only people read does no harm; in what is used it is an error like any other value."""
    path = writer.write_llama(tmp_path / "x.gguf", llama, {"general.name": "Caf@", "general.type": "model"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Caf@", b"Caf\xe9"))
    checkpoint.read(path)
    spoilt = struct.pack("<Q", 5) + b"llam\xe9"
    path.write_bytes(data.replace(struct.pack("<Q", 5) + b"llama", spoilt, 1))
    with pytest.raises(ConfigError, match=r"general\.architecture is b'llam\\xe9', but must be one of"):
        checkpoint.read(path)
