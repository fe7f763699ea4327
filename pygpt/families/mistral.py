"""Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with a window in every layer.

Names and keys are those of Hugging Face transformers' MistralForCausalLM; llama.cpp's architecture for it is "llama",
which knows no window.
"""

from __future__ import annotations

from pygpt.config import LayerConfig, ModelConfig
from pygpt.families.base import Family, Settings
from pygpt.families.decoder import BUFFERS, SOURCES, decoder, decoder_settings, head_width, layer_count, rope_of
from pygpt.families.layers import windows


def config(s: Settings) -> ModelConfig:
    """config.json of MistralForCausalLM, which without the key sliding_window has one of 4096."""
    s.fill(sliding_window=4096)
    (window,) = windows(s, [s.has("sliding_window")])
    layer = LayerConfig(attn_scale=head_width(s) ** -0.5, rope=rope_of(s), window=window)
    return decoder(s, layer.repeated(layer_count(s)))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "mistral", "MistralForCausalLM", sliding_window=c.layers[0].window)


FAMILY = Family(
    name="mistral",
    model_types=("mistral",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=SOURCES,
    ignored=BUFFERS,
    harmless={},
    gguf=None,
)
