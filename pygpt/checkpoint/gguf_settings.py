"""GGUF's metadata and tensors as the config.json that a family reads, and what the result must agree with.

What a key means, and what its absence means, is what llama.cpp makes of it (its src/llama-model.cpp, load_hparams);
what it writes for a config.json stands in its convert_hf_to_gguf.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pygpt.checkpoint.gguf_keys import Metadata
from pygpt.checkpoint.gguf_rope import RopeTensors, rope_scaling
from pygpt.config import MAX_LAYERS, ModelConfig
from pygpt.families import Gguf, Settings

KEYS = {
    "vocab_size": ("vocab_size",),
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attention.scale": ("attention_multiplier",),
    "attention.max_alibi_bias": ("attn_config.alibi_bias_max",),
    "attention.clamp_kqv": ("attn_config.clip_qkv", "clip_qkv"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling",),
    "use_parallel_residual": ("use_parallel_residual",),
    "rope.freq_base": ("rope_theta",),
    "rope.freq_base_swa": ("rope_local_base_freq",),
    "rope.scaling.original_context_length": ("original_max_position_embeddings",),
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
}
"""The keys of config.json that a metadata key stands for, in any family that asks for one of them. A family that means
something else by one of these names says so in its own table."""

NONE_IF_ZERO = {
    "attention.sliding_window", "attention.scale", "attention.max_alibi_bias", "attention.clamp_kqv",
    "attn_logit_softcapping", "final_logit_softcapping", "embedding_scale", "residual_scale", "logit_scale",
    "expert_count", "expert_used_count",
}  # fmt: skip


class _Offers:
    """What a family may ask for, under its names; a dot in a key leads into a nested table."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.names: dict[str, str] = {}

    def put(self, key: str, value: object, name: str | None = None) -> None:
        """A value, unless there is one; and, if it comes from the file, what it is called there."""
        *path, last = key.split(".")
        table = self.values
        for step in path:
            inner = table.setdefault(step, {})
            if not isinstance(inner, dict):
                return
            table = inner
        if isinstance(value, dict):
            for inner_key, inner_value in value.items():
                self.put(f"{key}.{inner_key}", inner_value)
        elif table.get(last) is None:
            table[last] = value
            if name is not None:
                self.names[key] = name


def settings(
    metadata: Metadata, gguf: Gguf, shapes: Mapping[str, tuple[int, ...]], rope_tensors: RopeTensors
) -> Settings:
    """The metadata under the keys of the family's config.json. `shapes` are those of the tensors."""
    offers = _Offers()
    own = {key: source for source, keys in KEYS.items() for key in keys} | dict(gguf.keys)
    for key, source in own.items():
        offers.names[key] = metadata.name(source)
        value = metadata.peek(source)
        if value is not None:
            none = source in NONE_IF_ZERO and value == 0  # and no default takes its place
            offers.put(key, None if none else value, metadata.name(source))
    offers.put("rope_theta", 10000.0)  # where nothing says it, whatever the family's own default
    _put_heads(offers, metadata)
    _put_layer_types(offers, metadata)
    for key, (value, name) in rope_scaling(metadata, rope_tensors, offers.values).items():
        offers.put(f"rope_scaling.{key}", value, name)
    offers.names["rope_scaling"] = metadata.name("rope.scaling")
    _put_tensors(offers, shapes)
    for key, tokens in {"bos": ("bos",), "eos": ("eos", "eot", "eom")}.items():
        ids = [i for token in tokens if (i := metadata.get(f"tokenizer.ggml.{token}_token_id")) is not None]
        offers.put(f"{key}_token_id", ids, f"tokenizer.ggml.{key}_token_id")
    for key, value in gguf.unsaid(Settings(offers.values, metadata.file, offers.names), shapes.keys()).items():
        offers.put(key, value)
    return Settings(offers.values, metadata.file, offers.names)


def _put_heads(offers: _Offers, metadata: Metadata) -> None:
    """The width of a head, and how much of it turns: all of it where the file does not say."""
    n_embd, n_head = metadata.peek("embedding_length"), metadata.peek("attention.head_count")
    width = metadata.peek("attention.key_length")
    if width is None and isinstance(n_embd, int) and isinstance(n_head, int) and n_head > 0 and n_embd % n_head == 0:
        width = n_embd // n_head
    offers.put("head_dim", width, metadata.name("attention.key_length"))
    turned = metadata.peek("rope.dimension_count")
    turned = width if turned is None else turned
    if not isinstance(width, int) or not isinstance(turned, int) or not 0 < turned <= width:
        return
    share = turned / width
    while int(share * width) < turned:  # a family rounds down
        share = math.nextafter(share, 1)
    name = metadata.name("rope.dimension_count")
    offers.put("rotary_dim", turned, name)
    for key in ("partial_rotary_factor", "rotary_pct"):
        offers.put(key, share, f"{name} / {metadata.name('attention.key_length')}")


def _put_layer_types(offers: _Offers, metadata: Metadata) -> None:
    """Which layers have the window: a flag for each, or n, where every n-th layer sees all."""
    key = "attention.sliding_window_pattern"
    pattern, n_layer = metadata.peek(key), metadata.peek("block_count")
    if pattern is None or not isinstance(n_layer, int) or n_layer > MAX_LAYERS:
        return
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern >= 0:
        slides = [pattern == 0 or i % pattern < pattern - 1 for i in range(n_layer)]
    elif isinstance(pattern, list) and len(pattern) == n_layer:
        slides = list(map(bool, pattern))
    else:
        raise metadata.error(key, "a number of layers, or a flag for each layer")
    kinds = ["sliding_attention" if slide else "full_attention" for slide in slides]
    offers.put("layer_types", kinds, metadata.name(key))


def _put_tensors(offers: _Offers, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """What the metadata leaves out and the tensors show."""
    if (embed := shapes.get("token_embd.weight")) is not None:
        offers.put("vocab_size", embed[0])
    offers.put("tie_word_embeddings", "output.weight" not in shapes)
    attention = "blk.0.attn_q.bias" in shapes or "blk.0.attn_qkv.bias" in shapes
    for key in ("attention_bias", "use_bias", "bias"):
        offers.put(key, attention)
    offers.put("no_bias", not attention)
    offers.put("mlp_bias", "blk.0.ffn_up.bias" in shapes)


def check(config: ModelConfig, metadata: Metadata) -> None:
    """ConfigError unless the configuration has the sizes that the file announces, whatever its family asked for."""
    sizes = {
        "vocab_size": config.n_vocab,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.key_length_swa": config.head_dim,
        "attention.value_length_swa": config.head_dim,
    }
    for key, size in sizes.items():
        if metadata.own(key) not in (None, size):
            raise metadata.error(key, f"{size}, as the rest of the file has it")
    turned = {layer.rope.dim for layer in config.layers if layer.rope is not None}
    for key in ("rope.dimension_count", "rope.dimension_count_swa"):
        if turned and metadata.own(key) not in (None, *turned):
            raise metadata.error(key, f"{' or '.join(map(str, turned))}, as the rest of the file has it")
    scale = metadata.own("attention.scale")
    scales = sorted({float(str(np.float32(layer.attn_scale))) for layer in config.layers})
    if scale not in (None, 0) and [scale] != scales:
        usual = " and ".join(map(str, scales))
        raise metadata.error("attention.scale", f"0, or {usual}, by which this architecture multiplies scores")
