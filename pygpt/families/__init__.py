"""The model families: how each one's own configuration becomes a `ModelConfig`, and what it calls its tensors.

A family is a module of this package with a value `FAMILY`; nothing else names it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from pygpt._json import shown
from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families.base import Family, Gguf, Own, Settings, Sizes, Source
from pygpt.families.keys import CONFIG, refuse_unknown

__all__ = [
    "Family",
    "Gguf",
    "Own",
    "Settings",
    "Sizes",
    "Source",
    "by_architecture",
    "by_model_type",
    "by_own_form",
    "families",
    "model_config",
    "new_model",
    "settings_for",
]


@functools.cache
def families() -> tuple[Family, ...]:
    """Every family, in the order of their modules' names; these are imported when first asked for."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


def by_model_type(settings: Settings) -> Family:
    """The family that a config.json names in its key model_type."""
    if not settings.has("model_type"):
        raise ConfigError(f"{settings.file} lacks the key 'model_type'")
    for family in families():
        if settings.get("model_type") in family.model_types:
            return family
    raise settings.error("model_type", f"one of {', '.join(t for family in families() for t in family.model_types)}")


def by_architecture(architecture: object, file: str, experts: bool = False) -> tuple[Family, Gguf]:
    """The family that a GGUF file names in its key general.architecture, which another with experts may share."""
    found = [(family, family.gguf) for family in families() if family.gguf is not None]
    named = [(family, gguf) for family, gguf in found if gguf.architecture == architecture]
    if named:
        return next((pair for pair in named if pair[1].experts == experts), named[0])
    known = ", ".join(sorted({gguf.architecture for _, gguf in found}))
    raise ConfigError(f"{file}: general.architecture is {shown(architecture)}, but must be one of {known}")


def by_own_form(table: Mapping[str, object], beside: Mapping[str, object], file: str) -> tuple[Family, Own] | None:
    """The family whose program wrote a table with ``torch.save``; `beside` is config.json's, empty where there is none.
    None where it is in no such form."""
    for family in families():
        try:
            found = family.own(table, beside)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None
        if found is not None:
            return family, found
    return None


def model_config(family: Family, settings: Settings) -> ModelConfig:
    """The family's reading of its configuration; every error names the file."""
    try:
        return family.config(settings)
    except ConfigError as error:
        if settings.file in str(error):
            raise
        raise ConfigError(f"{settings.file}: {error}") from None


def settings_for(config: ModelConfig, name: str | None = None) -> tuple[Family, dict[str, object]]:
    """The family whose config.json can say what `config` says, and that config.json: of several, the one of that name,
    else one that pygpt makes new models of, and the first by name.

    A context that the rotary frequencies follow is no part of a config.json: whoever loads it chooses. Raises
    ConfigError where there is none, with what the nearest families cannot say.
    """
    reasons: list[tuple[int, str]] = []
    for family in sorted(families(), key=lambda family: (family.name != name, family.new is None)):
        if not (values := family.settings(config)):  # whose models are written as another's
            continue
        settings = Settings(values, "config.json")
        try:
            found = family.config(settings)
            settings.get("model_type")
            refuse_unknown(settings.rest(), {**CONFIG, **family.harmless}, settings.file)
        except ConfigError as error:
            reasons.append((3, f"{family.model_types[0]}: {error}"))  # as if three fields differed
            continue
        if found.n_ctx != config.n_ctx and found.n_ctx < found.max_n_ctx >= config.n_ctx:
            found = found.with_context(config.n_ctx)
        if found == config:
            return family, values
        differences = _differences(config, found)
        reasons.append((len(differences), f"{family.model_types[0]} has no {', no '.join(differences)}"))
    nearest = [reason for _, reason in sorted(reasons, key=lambda reason: reason[0])[:3]]
    raise ConfigError(f"no family can express this configuration: {'; '.join(nearest)}")


def _differences(config: ModelConfig, found: ModelConfig) -> list[str]:
    """The fields of `config` that are not as in `found`, and those of the first layer that differs."""

    def fields(a: Any, b: Any, where: str) -> list[str]:
        names = (f.name for f in dataclasses.fields(a) if f.name != "layers")
        return [f"{where}{n} {getattr(a, n)!r}" for n in names if getattr(a, n) != getattr(b, n)]

    layers = (fields(a, b, f"layers[{i}].") for i, (a, b) in enumerate(zip(config.layers, found.layers, strict=False)))
    return fields(config, found, "") + next(filter(None, layers), [])


def new_model(name: str, sizes: Sizes) -> ModelConfig:
    """A new model of a family, untrained. ValueError for a name or for sizes that are not allowed, ConfigError for
    sizes that no model can have."""
    makers = {family.name: (family, family.new) for family in families() if family.new is not None}
    if name not in makers:
        raise ValueError(f"the architecture must be one of {', '.join(makers)}, not {name!r}")
    family, new = makers[name]
    return family.config(Settings(values=new(sizes), file=f"a new {name}"))
