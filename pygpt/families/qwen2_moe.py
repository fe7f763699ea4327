"""Qwen1.5-MoE and Qwen2's mixtures (Yang et al. 2024, arXiv:2407.10671): Qwen2 with routed experts and a shared one.

Names and keys are those of Hugging Face transformers' Qwen2MoeForCausalLM and of llama.cpp's architecture "qwen2moe".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from pygpt.config import Experts, LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings, Source
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_SOURCES,
    SOURCES,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.layers import sliding_layers, window_settings, windows
from pygpt.families.routed import (
    GGUF_EXPERTS,
    GGUF_SHARED,
    HARMLESS,
    PARTS,
    expert_count,
    expert_sources,
    experts_of,
    fused_sources,
)


def with_experts(s: Settings, layers: Sequence[LayerConfig], experts: Experts) -> list[LayerConfig]:
    """Each decoder_sparse_step-th layer has experts, but for the mlp_only_layers."""
    step, dense = s.integer("decoder_sparse_step", 1), s.get("mlp_only_layers") or []
    if not isinstance(dense, list) or any(type(i) is not int for i in dense):
        raise s.error("mlp_only_layers", "a list of layers' numbers")
    routed = [i not in dense and (i + 1) % step == 0 for i in range(len(layers))]
    return [replace(layer, experts=experts) if has else layer for layer, has in zip(layers, routed, strict=True)]


def routed_settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `with_experts`, and of the keys of experts that Qwen's mixtures have alike."""
    e = experts_of(c)
    return {
        "decoder_sparse_step": 1,
        "mlp_only_layers": [i for i, layer in enumerate(c.layers) if layer.experts is None],
        "num_experts": e and e.n_expert,
        "num_experts_per_tok": e and e.n_used,
        "moe_intermediate_size": e and e.n_inner,
        "norm_topk_prob": e is not None and e.normalized,
    }


def config(s: Settings) -> ModelConfig:
    """config.json of Qwen2MoeForCausalLM. With use_sliding_window and without layer_types, every second layer has the
    window, from the first to those before max_window_layers."""
    used, last = s.flag("use_sliding_window", False), s.get("max_window_layers")
    n_layer, last = layer_count(s), 28 if last is None else last
    if type(last) is not int or last < 0:
        raise s.error("max_window_layers", "an integer of at least 0")
    s.fill(sliding_window=4096)
    slides = sliding_layers(s, [used and i % 2 == 0 and i < last for i in range(n_layer)])
    if any(slides) and not used:
        raise s.error("layer_types", "full_attention in all layers, as use_sliding_window is false")
    scale, rope = head_width(s) ** -0.5, rope_of(s)
    layers = [LayerConfig(attn_scale=scale, rope=rope, window=window) for window in windows(s, slides)]
    experts = Experts(
        n_expert=expert_count(s, 60),
        n_used=s.integer("num_experts_per_tok", 4),
        n_inner=s.integer("moe_intermediate_size", 1408),
        normalized=s.flag("norm_topk_prob", False),
        shared_inner=s.integer("shared_expert_intermediate_size", 5632),
        shared_gate=True,
    )
    return decoder(s, with_experts(s, layers, experts), qkv_bias=s.flag("qkv_bias", True))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    e = experts_of(c)
    return decoder_settings(
        c,
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        qkv_bias=c.qkv_bias,
        shared_expert_intermediate_size=e and e.shared_inner,
        use_sliding_window=any(layer.window for layer in c.layers),
        **window_settings(c),
        **routed_settings(c),
    )


def _unsaid(s: Settings, names: Collection[str]) -> dict[str, object]:
    """As llama.cpp takes them where older files leave them out."""
    inner, used = s.get("intermediate_size"), s.get("num_experts_per_tok")
    divided = inner // used if isinstance(inner, int) and isinstance(used, int) and used > 0 else None
    return {
        "moe_intermediate_size": divided,
        "shared_expert_intermediate_size": inner,
        "norm_topk_prob": False,
        "qkv_bias": "blk.0.attn_q.bias" in names,
    }


FAMILY = Family(
    name="qwen2_moe",
    model_types=("qwen2_moe",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources={
        **SOURCES,
        "blocks.{i}.mlp.router": Source("layers.{i}.mlp.gate"),
        **expert_sources(*(f"layers.{{i}}.mlp.experts.{{e}}.{part}_proj" for part in PARTS)),
        **{f"blocks.{{i}}.mlp.shared.{part}": Source(f"layers.{{i}}.mlp.shared_expert.{part}_proj") for part in PARTS},
        "blocks.{i}.mlp.shared_gate": Source("layers.{i}.mlp.shared_expert_gate"),
    },
    ignored=BUFFERS,
    harmless=HARMLESS,
    gguf=Gguf(architecture="qwen2moe", sources=GGUF_SOURCES | GGUF_EXPERTS | GGUF_SHARED, unsaid=_unsaid),
    layouts=(fused_sources("layers.{i}.mlp.experts"),),
)
