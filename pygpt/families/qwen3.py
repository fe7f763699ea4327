"""Qwen3 (Yang et al. 2025, arXiv:2505.09388): Qwen2 with an RMS norm of each query and key in the place of biases.

Names and keys are those of Hugging Face transformers' Qwen3ForCausalLM and of llama.cpp's architecture "qwen3".
"""

from __future__ import annotations

from pygpt.config import ModelConfig
from pygpt.families.base import Family, Gguf, Settings
from pygpt.families.decoder import (
    BUFFERS,
    GGUF_QK_NORMS,
    GGUF_SOURCES,
    QK_NORMS,
    SOURCES,
    attention_bias,
    decoder,
    decoder_settings,
)
from pygpt.families.qwen2 import layer_settings, layers


def config(s: Settings) -> ModelConfig:
    """config.json of Qwen3ForCausalLM, whose heads are 128 wide where it does not say."""
    s.fill(head_dim=128)
    return decoder(s, layers(s), qk_norm="head", **attention_bias(s))


def settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `config`."""
    return decoder_settings(c, "qwen3", "Qwen3ForCausalLM", attention_bias=c.qkv_bias, **layer_settings(c))


FAMILY = Family(
    name="qwen3",
    model_types=("qwen3",),
    config=config,
    settings=settings,
    new=None,
    prefix="model.",
    sources=SOURCES | QK_NORMS,
    ignored=BUFFERS,
    harmless={},
    gguf=Gguf(architecture="qwen3", sources=GGUF_SOURCES | GGUF_QK_NORMS),
)
