"""A model's layers as a table for people: what each gives and how many parameters it has."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygpt.config import ModelConfig


def summary(config: ModelConfig) -> str:
    """A line for each layer, from the ids to the logits: its name, the shape of what it gives for T tokens, its
    parameters. Layers that differ in their numbers alone share a line."""
    outputs: dict[str, int] = {}  # values for each token
    n_params: dict[str, int] = {}
    for tensor, shape in config.tensor_shapes().items():
        layer = re.sub(r"\.(weight|bias)$", "", tensor)
        is_table = layer in ("embed", "pos")  # whose rows are chosen
        outputs.setdefault(layer, shape[-1] if is_table else shape[0])
        n_params[layer] = n_params.get(layer, 0) + math.prod(shape)

    alike: dict[tuple[str, int, int], list[str]] = {}
    for layer in outputs:
        alike.setdefault((re.sub(r"\d+", "#", layer), outputs[layer], n_params[layer]), []).append(layer)

    rows = [("layer", "output", "parameters")]
    for (_, output, n), layers in alike.items():
        rows.append((_name(layers), f"(T, {output:,})", f"{len(layers)} x {n:,}" if len(layers) > 1 else f"{n:,}"))
        if layers == ["embed"] and config.sinusoidal_positions:
            rows.append(("sinusoidal positions", f"(T, {config.n_embd:,})", "0"))
    if config.tied_head:
        rows.append(("head, which is embed", f"(T, {config.n_vocab:,})", "0"))
    rows.append(("in all", "", f"{config.n_params():,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)


def _name(layers: Collection[str]) -> str:
    """One name for layers that differ in their numbers: blocks.0-5.attn.q."""
    numbers = zip(*(map(int, re.findall(r"\d+", layer)) for layer in layers), strict=True)
    spans = iter([_span(sorted(set(column))) for column in numbers])
    return re.sub(r"\d+", lambda _: next(spans), next(iter(layers)))


def _span(numbers: list[int]) -> str:
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 1 and last - first + 1 == len(numbers):
        return f"{first}-{last}"
    return ",".join(map(str, numbers))
