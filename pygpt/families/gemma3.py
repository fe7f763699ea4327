"""Gemma 3's models of text and images, of which pygpt runs the text: the part that sees images is passed over, and the
tokens that stand for one are tokens like others.

Names and keys are those of Hugging Face transformers' Gemma3ForConditionalGeneration.
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import gemma3_text, keys
from pygpt.families.base import Family, Settings, Source, special_tokens
from pygpt.families.keys import harmless


def config(s: Settings) -> ModelConfig:
    """config.json of Gemma3ForConditionalGeneration, whose text_config is that of Gemma3ForCausalLM."""
    text = s.table("text_config")
    if text is None:
        raise ConfigError(f"{s.file} lacks the table 'text_config'")
    text.require("model_type", "gemma3_text")
    text.fill(tie_word_embeddings=s.flag("tie_word_embeddings", True))
    config = gemma3_text.config(text)
    given = special_tokens(s, config.n_vocab)
    return replace(config, bos_id=given["bos_id"] or config.bos_id, eos_ids=given["eos_ids"] or config.eos_ids)


def settings(c: ModelConfig) -> dict[str, object]:
    """None: a text model is written as one."""
    return {}


FAMILY = Family(
    name="gemma3",
    model_types=("gemma3",),
    config=config,
    settings=settings,
    new=None,
    prefix="language_model.model.",
    sources={**gemma3_text.FAMILY.sources, "head": Source("language_model.lm_head")},
    ignored=(*gemma3_text.FAMILY.ignored, r"vision_tower\..*", r"multi_modal_projector\..*"),
    harmless={
        **harmless("what images become", "vision_config", "mm_tokens_per_image"),
        **harmless("tokens that stand for images", "boi_token_index", "eoi_token_index", "image_token_index"),
        **harmless("the text's own says it", "initializer_range"),
        **{f"text_config.{key}": known for key, known in keys.CONFIG.items()},
    },
    gguf=None,
)
