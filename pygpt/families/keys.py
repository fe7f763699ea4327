"""The keys of configuration files that no family asks for, and why each may be passed over.

A checkpoint's configuration says what its model computes. So a key is either asked for, or it stands here (or in its
family's own list) with the reason, or it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pygpt._json import shown
from pygpt.errors import ConfigError


class Known(NamedTuple):
    """A key that need not be read: the reason, and the values for which it holds (None: all)."""

    why: str
    values: tuple[object, ...] | None


def harmless(why: str, *keys: str) -> dict[str, Known]:
    """Keys that change nothing, whatever their value."""
    return dict.fromkeys(keys, Known(why, None))


def fixed(why: str, **values: object) -> dict[str, Known]:
    """Keys with the one value under which they say what pygpt does anyway; a tuple gives several."""
    return {k: Known(why, v if isinstance(v, tuple) else (v,)) for k, v in values.items()}


def refuse_unknown(rest: Mapping[str, object], known: Mapping[str, Known], file: str) -> None:
    """ConfigError, naming the file and the key, unless all that no one asked for is known to be harmless.

    A key of `known` that ends in ".*" stands for all that begin so. null says nothing, under any key.
    """
    for name, value in rest.items():
        found = known.get(name) or next((known[p] for p in _patterns(name) if p in known), None)
        if value is None or (found is not None and (found.values is None or _in(value, found.values))):
            continue
        if found is None:
            raise ConfigError(
                f"{file}: the key {shown(name)} (its value is {shown(value)}) is none that pygpt knows, and may change "
                "what the model computes; if it does not, take it out of the file"
            )
        allowed = " or ".join(map(shown, found.values or ())) or "absent"
        raise ConfigError(f"{file}: {name} is {shown(value)}, but must be {allowed}: {found.why}")


def _patterns(name: str) -> list[str]:
    """The patterns that can match: "a.*" and "a.b.*" for "a.b.c"."""
    parts = name.split(".", 8)
    return [".".join(parts[:n]) + ".*" for n in range(1, len(parts))]


def _in(value: object, allowed: tuple[object, ...]) -> bool:
    return isinstance(value, (bool, int, float, str, list, dict)) and value in allowed


_SAMPLING = {
    **harmless(
        "how to choose among the next tokens: the caller of `generate` says it",
        "do_sample", "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
        "repetition_penalty", "length_penalty", "diversity_penalty", "penalty_alpha", "num_beams", "num_beam_groups",
        "early_stopping", "no_repeat_ngram_size", "num_return_sequences", "renormalize_logits", "remove_invalid_values",
        "low_memory", "task_specific_params",
    ),
    **harmless(
        "where to stop: the caller of `generate` says it, beside the end tokens",
        "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time", "stop_strings",
    ),
    **harmless(
        "what a generating call returns", "output_attentions", "output_hidden_states", "output_scores",
        "output_logits", "return_dict", "return_dict_in_generate", "return_legacy_cache",
    ),
    **harmless("where keys and values are kept; pygpt always keeps them", "use_cache", "cache_implementation",
        "cache_config", "max_cache_len", "prefill_chunk_size"),
    **harmless("sequences are not padded; the other tokens stand in the tokenizer's files", "pad_token_id",
        "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"),
    **harmless("where the file came from", "transformers_version", "_from_model_config", "_commit_hash"),
    **fixed(
        "pygpt's sampling has no such rule; the file without this key generates without it",
        bad_words_ids=[], force_words_ids=[], constraints=[], sequence_bias=({}, []), suppress_tokens=[],
        begin_suppress_tokens=[], forced_decoder_ids=[], forced_bos_token_id=(),
        forced_eos_token_id=(), decoder_start_token_id=(), exponential_decay_length_penalty=(), watermarking_config=(),
        guidance_scale=1, dola_layers=(), token_healing=False, encoder_repetition_penalty=1,
        encoder_no_repeat_ngram_size=0,
    ),
}  # fmt: skip

GENERATION: dict[str, Known] = {
    **_SAMPLING,
    **harmless(
        "how another program speeds generation up, which leaves its result as it is",
        "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight",
        "prompt_lookup_num_tokens", "max_matching_ngram_size", "speculation_type", "use_mtp", "disable_compile",
        "compile_config", "continuous_batching_config",
    ),
    **harmless("what people read", "_name_or_path", "chat_format"),
}  # fmt: skip
"""generation_config.json, of which the special tokens are used."""

CONFIG: dict[str, Known] = {
    **_SAMPLING,
    **harmless("where the file came from", "_name_or_path", "_model_name_or_path", "architectures", "unsloth_version",
        "unsloth_fixed"),
    **harmless("the type of the weights, which their own file says", "torch_dtype", "dtype", "use_bfloat16"),
    **harmless(
        "of training alone",
        "attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "classifier_dropout",
        "attention_probs_dropout_prob", "hidden_dropout_prob",
        "initializer_range", "gradient_checkpointing", "tf_legacy_loss",
    ),
    **harmless(
        "of a head other than the language model's, whose tensors would be refused",
        "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
        "num_labels", "_num_labels", "id2label", "label2id", "problem_type", "finetuning_task",
    ),
    **harmless(
        "how another program computes the same",
        "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "attn_implementation",
        "chunk_size_feed_forward", "torchscript", "xla_device", "output_past", "transformers.js_config",
    ),
    **harmless("the tokenizer's own files say which it is", "tokenizer_class"),
    **harmless("attention is causal in this architecture, whatever the key says", "is_decoder"),
    **fixed(
        "pygpt runs decoders, in which a position sees itself and those before it",
        is_causal=True, is_encoder_decoder=False, add_cross_attention=False, tie_encoder_decoder=False,
        cross_attention_hidden_size=(),
    ),
    **fixed("pygpt has all heads of a layer, or none", pruned_heads={}),
    **fixed("pygpt puts no text before a prompt by itself", prefix=""),
    **fixed(
        "pygpt reads weights as floating-point numbers and quantises them itself: take the checkpoint that was not "
        "quantised, or a GGUF file of it",
        quantization_config=(), quantization=(), compression_config=(),
    ),
    **fixed(
        "it names Python code beside the checkpoint, which pygpt never runs; without this key the model is read as "
        "what model_type says",
        auto_map=(), custom_pipelines=(),
    ),
}  # fmt: skip
"""config.json as transformers writes it, versions 4 and 5, for every family."""

INDEX: dict[str, Known] = harmless("sums of what the files themselves say", "metadata")
"""model.safetensors.index.json, of which the table of files is used."""
