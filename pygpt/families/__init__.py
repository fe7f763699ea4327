"""The model families: how each one's own configuration becomes a `ModelConfig`, and what it calls its tensors."""

from __future__ import annotations

import dataclasses

from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import gpt1, gpt2, llama
from pygpt.families.base import Family, Gguf, Settings, Source

__all__ = [
    "FAMILIES",
    "Family",
    "Gguf",
    "Settings",
    "Source",
    "by_architecture",
    "by_model_type",
    "model_config",
    "settings_for",
]

FAMILIES: tuple[Family, ...] = (gpt1.FAMILY, gpt2.FAMILY, llama.FAMILY)


def by_model_type(settings: Settings) -> Family:
    """The family that a config.json names in its key model_type."""
    if not settings.has("model_type"):
        raise ConfigError(f"{settings.file} lacks the key 'model_type'")
    for family in FAMILIES:
        if settings.get("model_type") in family.model_types:
            return family
    raise settings.error("model_type", f"one of {', '.join(t for family in FAMILIES for t in family.model_types)}")


def by_architecture(architecture: object, file: str) -> tuple[Family, Gguf]:
    """The family that a GGUF file names in its key general.architecture."""
    families = {family.gguf.architecture: (family, family.gguf) for family in FAMILIES if family.gguf is not None}
    if isinstance(architecture, str) and architecture in families:
        return families[architecture]
    raise ConfigError(f"{file}: general.architecture is {architecture!r}, but must be one of {', '.join(families)}")


def model_config(family: Family, settings: Settings) -> ModelConfig:
    """The family's reading of its configuration; every error names the file."""
    try:
        return family.config(settings)
    except ConfigError as error:
        if settings.file in str(error):
            raise
        raise ConfigError(f"{settings.file}: {error}") from None


def settings_for(config: ModelConfig) -> tuple[Family, dict[str, object]]:
    """The family whose config.json can say what `config` says, and that config.json.

    Raises ConfigError where there is none, with what each family cannot say.
    """
    reasons = []
    for family in FAMILIES:
        values = family.settings(config)
        try:
            found = family.config(Settings(values=values, file="config.json"))
        except ConfigError as error:
            reasons.append(f"{family.model_types[0]}: {error}")
            continue
        if found == config:
            return family, values
        fields = (f.name for f in dataclasses.fields(config))
        odd = (f"{f} {getattr(config, f)!r}" for f in fields if getattr(found, f) != getattr(config, f))
        reasons.append(f"{family.model_types[0]} has no {', no '.join(odd)}")
    raise ConfigError(f"no family can express this configuration: {'; '.join(reasons)}")
