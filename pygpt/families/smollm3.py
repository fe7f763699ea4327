"""SmolLM3 (Hugging Face 2025): Llama, of whose layers every fourth has no positions (Yang et al. 2025,
arXiv:2501.18795).

Names and keys are those of Hugging Face transformers' SmolLM3ForCausalLM and of llama.cpp's architecture "smollm3".
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Gguf, Settings
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_INTERLEAVED,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
    head_width,
    layer_count,
    rope_of,
)
from pygpt.families.keys import harmless
from pygpt.families.layers import sliding_layers, window_settings, windows


def turning_layers(s: Settings, n_layer: int) -> list[bool]:
    """Which layers have rotary positions: `no_rope_layers`, where 1 stands for those that do, or all but every
    no_rope_layer_interval-th."""
    given, interval = s.get("no_rope_layers"), s.integer("no_rope_layer_interval", 4)
    if given is None:
        return [(i + 1) % interval != 0 for i in range(n_layer)]
    if not isinstance(given, list) or len(given) < n_layer or any(flag not in (0, 1) for flag in given):
        raise s.error("no_rope_layers", f"a list of {n_layer}, of 1 for rotary positions and 0 for none")
    return list(map(bool, given[:n_layer]))


def config(s: Settings) -> ModelConfig:
    """config.json of SmolLM3ForCausalLM. A window, which only layers without positions have by default, needs
    use_sliding_window."""
    turns, scale, rope = turning_layers(s, layer_count(s)), head_width(s) ** -0.5, rope_of(s, theta=2e6)
    used = s.flag("use_sliding_window", False)
    slides = sliding_layers(s, [used and s.has("sliding_window") and not turn for turn in turns])
    if any(slides) and not used:
        raise s.error("layer_types", "full_attention in all layers, as use_sliding_window is false")
    layers = (
        LayerConfig(attn_scale=scale, rope=rope if turn else None, window=window)
        for turn, window in zip(turns, windows(s, slides), strict=True)
    )
    s.fill(tie_word_embeddings=True)
    return decoder(s, layers, mlp_bias=s.flag("mlp_bias", False), **attention_bias(s))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(
        c,
        "smollm3",
        "SmolLM3ForCausalLM",
        attention_bias=c.qkv_bias,
        mlp_bias=c.mlp_bias,
        no_rope_layers=[int(layer.rope is not None) for layer in c.layers],
        use_sliding_window=any(layer.window for layer in c.layers),
        **window_settings(c),
    )


FAMILY = Family(
    name="smollm3",
    model_types=("smollm3",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=SOURCES,
    ignored=BUFFERS,
    harmless={
        **harmless("layer_types says which layers have a window", "max_window_layers"),
        **harmless("it cuts products into slices, which add up to the same", "pretraining_tp"),
    },
    gguf=Gguf(architecture="smollm3", sources=GGUF_INTERLEAVED),
)
