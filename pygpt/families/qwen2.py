"""Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671 and arXiv:2412.15115): Llama with biases on q, k and v, and
windows in some layers.

Names and keys are those of Hugging Face transformers' Qwen2ForCausalLM and of llama.cpp's architecture "qwen2".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings
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
from pygpt.families.keys import fixed
from pygpt.families.layers import sliding_layers, window_settings, windows


def layers(s: Settings) -> tuple[LayerConfig, ...]:
    """Where use_sliding_window says so, those from max_window_layers on have a window, or those of layer_types."""
    used, n_layer = s.flag("use_sliding_window", False), layer_count(s)
    s.fill(sliding_window=4096)
    first = s.get("max_window_layers")
    if first is not None and (type(first) is not int or first < 0):
        raise s.error("max_window_layers", "an integer of at least 0")
    first = 28 if first is None else first
    slides = sliding_layers(s, [used and s.has("sliding_window") and i >= first for i in range(n_layer)])
    if any(slides) and not used:
        raise s.error("layer_types", "full_attention in all layers, as use_sliding_window is false")
    scale, rope = head_width(s) ** -0.5, rope_of(s)
    return tuple(LayerConfig(attn_scale=scale, rope=rope, window=window) for window in windows(s, slides))


def layer_settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `layers`."""
    return {"use_sliding_window": any(layer.window for layer in c.layers), **window_settings(c)}


def config(s: Settings) -> ModelConfig:
    """config.json of Qwen2ForCausalLM."""
    return decoder(s, layers(s), qkv_bias=True)


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "qwen2", "Qwen2ForCausalLM", **layer_settings(c))


FAMILY = Family(
    name="qwen2",
    model_types=("qwen2",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=SOURCES,
    ignored=BUFFERS,
    harmless=fixed("positions are those of a text", use_mrope=False),
    gguf=Gguf(architecture="qwen2", sources=GGUF_SOURCES),
)
