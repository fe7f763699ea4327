"""What the families of Llama's kind say alike about their layers: rotary positions, contexts, windows.

The keys are those of Hugging Face transformers, in the spelling of version 4 (`rope_theta` and `rope_scaling` at the
top) and of version 5 (a table `rope_parameters`); the meanings are those of its modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pygpt._json import shown
from pygpt.config import ModelConfig, Rope, RopeScaling
from pygpt.errors import ConfigError
from pygpt.families.base import Settings

KINDS = {kind: kind for kind in ("default", "linear", "dynamic", "llama3", "yarn", "longrope")}


def rope_scaling(
    s: Settings, dim: int, n_ctx: int, original_n_ctx: int | None = None, kinds: Mapping[str, str] = KINDS
) -> RopeScaling | None:
    """A table of rotary settings, in which older files name the kind "type", for a checkpoint whose
    max_position_embeddings is n_ctx; `original_n_ctx` goes before what the table says. `kinds` are what a family calls
    those that it knows."""
    key = "rope_type" if s.has("rope_type") else "type"
    name = s.get(key) if s.has(key) else "default"
    s.require("type", name, f"{shown(name)}, as rope_type is")
    if not isinstance(name, str) or name not in kinds:
        raise s.error(key, f"one of {', '.join(kinds)}")
    kind = kinds[name]
    if kind == "default":
        s.require("factor", 1)
        return None
    if kind == "linear":
        s.has("original_max_position_embeddings")  # which a linear stretch does not depend on
        return RopeScaling(kind="linear", factor=s.number("factor"))
    if kind == "dynamic":
        s.require("original_max_position_embeddings", n_ctx, f"max_position_embeddings ({n_ctx})")
        return RopeScaling(kind="dynamic", factor=s.number("factor"), original_n_ctx=n_ctx)
    original = original_n_ctx or s.integer("original_max_position_embeddings", n_ctx)
    s.has("original_max_position_embeddings")
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=s.number("factor"),
            low_freq_factor=s.number("low_freq_factor"),
            high_freq_factor=s.number("high_freq_factor"),
            original_n_ctx=original,
        )
    return _yarn(s, n_ctx, original) if kind == "yarn" else _longrope(s, dim, n_ctx, original)


def _yarn(s: Settings, n_ctx: int, original: int) -> RopeScaling:
    factor = s.number("factor", n_ctx / original)
    attention_factor = s.number("attention_factor") if s.has("attention_factor") else None
    scales = [s.number(key) for key in ("mscale", "mscale_all_dim") if s.get(key) not in (None, 0)]
    if attention_factor is None and len(scales) == 2 and factor > 1:
        over, under = (0.1 * scale * math.log(factor) + 1.0 for scale in scales)
        attention_factor = over / under
    s.has("finetuned")  # whether the model was trained with it
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_n_ctx=original,
        beta_fast=s.number("beta_fast", 32.0),
        beta_slow=s.number("beta_slow", 1.0),
        truncate=s.flag("truncate", True),
        attention_factor=attention_factor,
    )


def _longrope(s: Settings, dim: int, n_ctx: int, original: int) -> RopeScaling:
    """max_position_embeddings is the longest context, and the ratio to the original one stands for a missing factor,
    which only the attention factor depends on."""
    reach = n_ctx / original
    if reach < 1:
        raise s.error("original_max_position_embeddings", f"at most max_position_embeddings ({n_ctx})")
    attention_factor = s.number("attention_factor") if s.has("attention_factor") else None
    if attention_factor is None and s.has("factor") and (factor := s.number("factor")) != reach:
        attention_factor = math.sqrt(1.0 + math.log(factor) / math.log(max(original, 2))) if factor > 1 else 1.0
    s.has("factor")
    return RopeScaling(
        kind="longrope",
        factor=reach,
        original_n_ctx=original,
        attention_factor=attention_factor,
        short_factor=s.numbers("short_factor", dim // 2),
        long_factor=s.numbers("long_factor", dim // 2),
    )


def rotary_embedding(
    s: Settings,
    head_dim: int,
    n_ctx: int,
    *,
    theta: float = 10000.0,
    partial: float | None = None,
    kinds: Mapping[str, str] = KINDS,
    older: Mapping[str, str] = MappingProxyType({}),
) -> Rope:
    """`rope_theta` and `rope_scaling` of transformers v4, v5's `rope_parameters`, or both where they agree.

    head_dim: the width of a head; n_ctx: max_position_embeddings; theta and partial: the base, and the share of a head
    that is rotated, where the file does not say (None: the family rotates all of it); kinds: as `rope_scaling` says;
    older: the family's own names at the top for rope_theta and partial_rotary_factor.
    """
    tables = [table for key in ("rope_parameters", "rope_scaling") if (table := s.table(key)) is not None]
    share = _agreed(s, tables, ("partial_rotary_factor", older.get("partial_rotary_factor")), partial or 1.0)
    if partial is None and share != 1:
        raise next(t for t in (*tables, s) if t.has("partial_rotary_factor")).error("partial_rotary_factor", "1")
    theta = _agreed(s, tables, ("rope_theta", older.get("rope_theta")), theta)
    original = s.integer("original_max_position_embeddings") if s.has("original_max_position_embeddings") else None
    dim = int(head_dim * share)
    scalings = [rope_scaling(table, dim, n_ctx, original, kinds) for table in tables]
    if len(set(scalings)) == 2:
        raise ConfigError(f"{s.file}: rope_parameters and rope_scaling disagree: {scalings[0]} and {scalings[1]}")
    return Rope(theta=theta, dim=dim, scaling=scalings[0] if scalings else None)


def _agreed(s: Settings, tables: list[Settings], keys: tuple[str, str | None], default: float) -> float:
    """A number that stands in the tables of rotary settings or at the top, there also under its second key; where it
    does so twice, they agree."""
    key, older = keys
    places = [(place, key) for place in (*tables, s)] + ([(s, older)] if older else [])
    given = [(place, key) for place, key in places if place.has(key)]
    value = given[0][0].number(given[0][1]) if given else default
    for place, key in given[1:]:
        place.require(key, value, f"{value}, as {given[0][0].name(given[0][1])} is")
    return value


def usual_context(n_ctx: int, rope: Rope) -> int:
    """The context of a checkpoint whose max_position_embeddings is n_ctx, where none is chosen: under longrope it is
    the original one, whose texts the short factors keep as they were."""
    scaling = rope.scaling
    return scaling.original_n_ctx if scaling is not None and scaling.kind == "longrope" else n_ctx


def rope_settings(rope: Rope, n_ctx: int) -> dict[str, object]:
    """The inverse of `rotary_embedding`, as transformers v4 spells it, which v5 reads too; with
    max_position_embeddings, where the model's context is n_ctx."""
    s = rope.scaling
    table: dict[str, object] = {"max_position_embeddings": n_ctx, "rope_theta": rope.theta}
    if s is None:
        return table
    scaling: dict[str, object] = {"rope_type": s.kind, "factor": s.factor}
    if s.kind == "dynamic":
        table["max_position_embeddings"] = s.original_n_ctx
    elif s.kind != "linear":
        scaling["original_max_position_embeddings"] = s.original_n_ctx
    if s.kind == "llama3":
        scaling |= {"low_freq_factor": s.low_freq_factor, "high_freq_factor": s.high_freq_factor}
    if s.kind == "yarn":
        scaling |= {"beta_fast": s.beta_fast, "beta_slow": s.beta_slow, "truncate": s.truncate}
    if s.kind == "longrope":
        table["max_position_embeddings"] = round(s.factor * s.original_n_ctx)
        scaling |= {"short_factor": list(s.short_factor), "long_factor": list(s.long_factor)}
    if s.attention_factor is not None:
        scaling["attention_factor"] = s.attention_factor
    return table | {"rope_scaling": scaling}


def sliding_layers(s: Settings, usual: Sequence[bool]) -> list[bool]:
    """Which layers see a window only: `layer_types`, or what is usual."""
    kinds = s.get("layer_types")
    if kinds is None:
        return list(usual)
    words = {"sliding_attention": True, "full_attention": False}
    slides = [words.get(kind) if isinstance(kind, str) else None for kind in kinds] if isinstance(kinds, list) else []
    found = [slide for slide in slides if slide is not None]
    if not len(found) == len(slides) == len(usual):
        raise s.error("layer_types", f"a list of {len(usual)}, of {' or '.join(words)}")
    return found


def windows(s: Settings, slides: Sequence[bool]) -> list[int | None]:
    """The window of each layer, None where it sees all before it: a token sees itself and sliding_window - 1 others."""
    s.has("sliding_window")  # which counts for nothing without such a layer
    return [s.integer("sliding_window") if slide else None for slide in slides]


def window_settings(c: ModelConfig) -> dict[str, object]:
    """The inverse of `windows` and `sliding_layers`."""
    slides = [layer.window is not None for layer in c.layers]
    kinds = ["sliding_attention" if slide else "full_attention" for slide in slides]
    return {"sliding_window": next((w for layer in c.layers if (w := layer.window)), None), "layer_types": kinds}
