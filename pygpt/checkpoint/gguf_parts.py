"""GGUF models that were cut into several files, NAME-00001-of-00003.gguf and so on, as llama.cpp's gguf-split and the
package gguf write them: the first has all the metadata, each its own tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pygpt._json import shown
from pygpt.checkpoint.gguf_file import GgufFile, TensorInfo, parse
from pygpt.errors import CheckpointError

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_OF_A_PART = {"split.no", "split.count", "split.tensors.count", "general.alignment"}


def are_parts_of_one(paths: Sequence[Path]) -> bool:
    """Whether the names are those of parts of one model."""
    names = {(match[1], match[3]) if (match := _NAME.fullmatch(path.name)) else path.name for path in paths}
    return len(names) == 1 and _NAME.fullmatch(paths[0].name) is not None


def parse_parts(path: Path) -> GgufFile:
    """The whole model of which `path` is the only file or any part.

    Raises CheckpointError for parts that are missing, damaged, or not those of one model.
    """
    file = parse(path)
    count = file.metadata.get("split.count", 0)
    if isinstance(count, int) and count in (0, 1):
        return file
    match = _NAME.fullmatch(path.name)
    if not isinstance(count, int) or match is None or int(match[3]) != count:
        raise CheckpointError(
            f"{path}: split.count is {shown(count)}, so this is one part of a model, and the others are found by "
            "their names: it must be called NAME-00001-of-00002.gguf, with its own numbers"
        )
    paths = [path.with_name(f"{match[1]}-{i + 1:05}-of-{count:05}{path.suffix}") for i in range(count)]
    if missing := [part.name for part in paths if not part.is_file()]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"{path}: lacks the other parts of its model {', '.join(missing[:5])}{more}")
    return _joined([file if part == path else parse(part) for part in paths])


def _joined(parts: list[GgufFile]) -> GgufFile:
    first = parts[0].metadata
    tensors: dict[str, TensorInfo] = {}
    for i, part in enumerate(parts):
        where, metadata = part.path, part.metadata
        for key, expected in {"split.no": i, "split.count": len(parts)}.items():
            if not _same(metadata.get(key), expected):
                raise CheckpointError(f"{where}: {key} is {shown(metadata.get(key))}, but its name says {expected}")
        for key in metadata.keys() - _OF_A_PART:
            if key not in first or not _same(metadata[key], first[key]):
                raise CheckpointError(f"{where}: {key} is not as in {parts[0].path.name}: parts of different models?")
        for name, info in part.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{where}: tensor {name!r} is also in {tensors[name].file.path.name}")
            tensors[name] = info
    if not _same(announced := first.get("split.tensors.count", len(tensors)), len(tensors)):
        message = f"split.tensors.count is {shown(announced)}, but there are {len(tensors)}"
        raise CheckpointError(f"{parts[0].path}: {message}")
    return GgufFile(parts[0].path, first, tensors)


def _same(a: Any, b: Any) -> bool:
    """Also of arrays, whose own comparison gives no answer."""
    return bool(np.array_equal(a, b))
