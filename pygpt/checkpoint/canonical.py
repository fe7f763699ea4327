"""From the tensors that a file holds to the canonical ones of `ModelConfig.tensor_shapes`, as lazy views."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt.checkpoint.tensor import Stored, Tensor, forget
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError
from pygpt.families import Source

_LAYER = re.compile(r"blocks\.(\d+)\.(.*)")


def canonical(
    where: Path,
    config: ModelConfig,
    stored: Mapping[str, Stored],
    sources: Mapping[str, Source],
    prefix: str = "",
    ignored: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """The canonical tensors of a checkpoint; nothing is read, but a tied head that the file holds beside the embedding.

    Raises CheckpointError where a tensor is missing, has a shape that disagrees with `config`, has a type that is not
    a supported float, where a tied head is not the embedding, or where the file holds a tensor that the family does not
    know: a sign of another architecture.
    """
    by_name = _without_prefix(where, stored, prefix)
    if config.tied_head:
        _tie(where, by_name, sources)
    if config.n_layer > len(by_name):  # before a name is made for each
        raise CheckpointError(f"{where}: {len(by_name)} tensors cannot be those of {config.n_layer} layers")
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    for name, shape in config.tensor_shapes().items():
        source, stored_name = _source(name, sources)
        used.add(stored_name)
        if stored_name in by_name:
            tensors[name] = _tensor(by_name[stored_name], name, shape, source, config.head_dim)
        elif stored_name not in missing:
            missing.append(stored_name)
    if missing:
        raise CheckpointError(f"{where}: lacks {_listed(missing)}, which its configuration asks for")
    unknown = [n for n in by_name if n not in used and not any(re.fullmatch(p, n) for p in ignored)]
    if unknown:
        raise CheckpointError(
            f"{where}: holds {_listed(unknown)}, which this architecture does not have: is the "
            "configuration that of another model?"
        )
    return tensors


def stored(
    config: ModelConfig, tensors: Mapping[str, ArrayLike], sources: Mapping[str, Source], prefix: str = ""
) -> dict[str, NDArray[np.float32]]:
    """The inverse of `canonical`: float32 arrays by stored name, as views where nothing has to be joined or converted.

    The head stands outside of the model that `prefix` names. Raises ValueError for a tensor that is missing, unknown,
    or of a shape other than `config` gives.
    """
    shapes = config.tensor_shapes()
    if unlike := sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"tensor {unlike[0]} is {'missing' if unlike[0] in shapes else 'not part of this model'}")
    parts: dict[str, list[NDArray[np.float32]]] = {}
    transposed: set[str] = set()
    for name, shape in sorted(shapes.items(), key=lambda item: _source(item[0], sources)[0].part):
        values = np.asarray(tensors[name], np.float32)
        if values.shape != shape:
            raise ValueError(f"tensor {name} must have the shape {shape}, not {values.shape}")
        source, stored_name = _source(name, sources)
        if name != "head.weight":
            stored_name = prefix + stored_name
        parts.setdefault(stored_name, []).append(values)
        if source.transposed:
            transposed.add(stored_name)
    joined = {name: pieces[0] if len(pieces) == 1 else np.concatenate(pieces) for name, pieces in parts.items()}
    return {name: values.T if name in transposed else values for name, values in joined.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the tensor{'s' if len(names) > 1 else ''} {shown}{more}"


def _without_prefix(where: Path, stored: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    by_name: dict[str, Stored] = {}
    for name, tensor in stored.items():
        short = name.removeprefix(prefix)
        if short in by_name:
            raise CheckpointError(f"{where}: holds both {short!r} and {prefix + short!r}")
        by_name[short] = tensor
    return by_name


def _tie(where: Path, by_name: dict[str, Stored], sources: Mapping[str, Source]) -> None:
    """One matrix for embedding and head, under the embedding's name: a file may hold it under either, or twice."""
    embed, head = (f"{sources[module].module}.weight" for module in ("embed", "head"))
    copy = by_name.pop(head, None)
    if copy is None:
        return
    if not _equal(by_name.setdefault(embed, copy), copy):
        raise CheckpointError(
            f"{where}: {copy.name!r} differs from {by_name[embed].name!r}, but the configuration says that they are "
            "one: is tie_word_embeddings wrong?"
        )


def _equal(a: Stored, b: Stored) -> bool:
    if a is b:
        return True
    if (a.shape, a.kind) != (b.shape, b.kind):
        return False
    x, y = a.read(), b.read()
    step = max(1, (1 << 20) // max(1, math.prod(a.shape[1:])))
    for i in range(0, len(x), step):
        if not np.array_equal(x[i : i + step], y[i : i + step]):
            return False
        forget(x)
        forget(y)
    return True


def _source(name: str, sources: Mapping[str, Source]) -> tuple[Source, str]:
    """The source of one canonical tensor, and the stored name it gives."""
    module, _, kind = name.rpartition(".")
    match = _LAYER.fullmatch(module)
    if match is None:
        source = sources[module]
        return source, f"{source.module}.{kind}"
    source = sources[f"blocks.{{i}}.{match[2]}"]
    return source, f"{source.module.replace('{i}', match[1])}.{kind}"


def _tensor(stored: Stored, name: str, shape: tuple[int, ...], source: Source, head_dim: int) -> Tensor:
    expected = (shape[0] * source.parts, *shape[1:])
    if source.transposed:
        expected = expected[::-1]
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name!r} has shape {list(stored.shape)}, but the configuration asks for "
            f"{list(expected)}"
        )
    if stored.kind is None:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name!r} has dtype {stored.dtype}, but weights must be F32, F16 or BF16"
        )
    read = functools.partial(_view, stored, source, shape[0], head_dim)
    return Tensor(name, shape, stored.kind, read, f"{stored.file}: tensor {stored.name!r}")


def _view(stored: Stored, source: Source, rows: int, head_dim: int) -> NDArray[np.generic]:
    """The stored values as (outputs, inputs) or (outputs,): a view, unless the rows have to change places."""
    values = stored.read()
    if source.transposed:
        values = values.T
    values = values[source.part * rows : (source.part + 1) * rows]
    if source.interleaved:
        # Row 2i of a head is paired with row 2i + 1; canonical is i with i + head_dim/2.
        pairs = values.reshape(rows // head_dim, head_dim // 2, 2, *values.shape[1:])
        values = pairs.swapaxes(1, 2).reshape(values.shape)
    return values
