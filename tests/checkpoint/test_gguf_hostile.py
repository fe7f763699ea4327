"""GGUF files whose metadata says anything at all: read, or refused with an error that names the file."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pygpt import checkpoint
from pygpt.checkpoint.gguf_file import QUANT_TYPES, parse
from pygpt.checkpoint.gguf_settings import KEYS
from pygpt.errors import CheckpointError, ConfigError

FILES = sorted((Path(__file__).parents[1] / "data" / "gguf").glob("*.gguf"))
VALUES = (
    0, 1, 2, 3, -1, 2**31 - 1, 2**31, 2**40, 2**63, 0.0, 0.5, -1.5, 1e30, float("nan"), float("inf"), "", "x", "none",
    "linear", "yarn", "longrope", True, False, [], [0, 0], [1, 2], [-1], [1.5], [True, False, True], ["a"],
)  # fmt: skip
MORE = (
    "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor", "attention.key_length",
    "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast", "rope.dimension_count", "attention.value_length",
    "attention.sliding_window_pattern",
)  # fmt: skip
DIVISORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def encoded(value: Any) -> bytes:
    """A value with its type before it, as the format's description has them."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<Iq", 11, value) if value < 0 else struct.pack("<IQ", 10, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, (str, bytes)):
        return struct.pack("<I", 8) + text(value)
    items = list(value)
    if items and isinstance(items[0], (str, bytes)):
        return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(map(text, items))
    kind, code = {bool: (7, "?"), float: (6, "f")}.get(type(items[0]) if items else int, (5, "i"))
    return struct.pack(f"<IIQ{len(items)}{code}", 9, kind, len(items), *items)


def rewritten(path: Path, changes: dict[str, Any], divisors: Iterable[float], name: str) -> bytes:
    """The file with other metadata, and with a tensor of divisors if there are any."""
    file, data = parse(path), path.read_bytes()
    numbers = {kind.name: number for number, kind in QUANT_TYPES.items()}
    tensors = [
        (t.name, t.shape, numbers[t.type.name], data[t.offset : t.offset + t.nbytes]) for t in file.tensors.values()
    ]
    if floats := list(divisors):
        tensors.append((name, (len(floats),), 0, struct.pack(f"<{len(floats)}f", *floats)))
    metadata = file.metadata | changes
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + encoded(value) for key, value in metadata.items())
    blob = b""
    for key, shape, number, raw in tensors:
        head += text(key) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, len(blob))
        blob += raw + bytes(-len(raw) % 32)
    return head + bytes(-len(head) % 32) + blob


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_any_metadata(path: Path, tmp_path: Path) -> None:
    rng = random.Random(path.stem)
    metadata = parse(path).metadata
    known = [*metadata, *(f"{metadata['general.architecture']}.{key}" for key in (*KEYS, *MORE))]
    target = tmp_path / "x.gguf"
    for _ in range(30):
        changes = {rng.choice(known): rng.choice(VALUES) for _ in range(rng.choice((1, 1, 2, 3)))}
        divisors = rng.choices((0.0, -1.0, 1.0, 1.5, 8.0, float("nan"), float("inf")), k=rng.choice((0, 0, 4, 5)))
        target.write_bytes(rewritten(path, changes, divisors, rng.choice(DIVISORS)))
        refused = ""
        try:
            _, tensors, _ = checkpoint.read(target)
            for tensor in tensors.values():
                tensor.raw()
        except (CheckpointError, ConfigError) as error:
            refused = str(error)
        assert not refused or str(target) in refused
