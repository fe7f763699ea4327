"""The model families: how each one's own configuration becomes a `ModelConfig`, and what it calls its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import gpt2, llama
from pygpt.families.base import Family, Settings, Source

__all__ = ["FAMILIES", "Family", "Settings", "Source", "by_architecture", "by_model_type", "model_config"]

FAMILIES: tuple[Family, ...] = (gpt2.FAMILY, llama.FAMILY)


def by_model_type(values: Mapping[str, object], file: str) -> Family:
    """The family that a config.json names in its key model_type."""
    s = Settings(values=values, file=file)
    if not s.has("model_type"):
        raise ConfigError(f"{file} lacks the key 'model_type'")
    for family in FAMILIES:
        if values["model_type"] in family.model_types:
            return family
    raise s.error("model_type", f"one of {', '.join(t for family in FAMILIES for t in family.model_types)}")


def by_architecture(architecture: object, file: str) -> Family:
    """The family that a GGUF file names in its key general.architecture."""
    for family in FAMILIES:
        if architecture == family.gguf_architecture:
            return family
    allowed = ", ".join(family.gguf_architecture for family in FAMILIES)
    raise ConfigError(f"{file}: general.architecture is {architecture!r}, but must be one of {allowed}")


def model_config(family: Family, settings: Settings) -> ModelConfig:
    """The family's reading of its configuration; every error names the file."""
    try:
        return family.config(settings)
    except ConfigError as error:
        if settings.file in str(error):
            raise
        raise ConfigError(f"{settings.file}: {error}") from None
