"""From the tensors that a file holds to the canonical ones of `ModelConfig.tensor_shapes`, as lazy views."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt.checkpoint.tensor import Stored, Tensor, forget, numbers
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import Source

_T = TypeVar("_T", bound=np.generic)
_LAYER = re.compile(r"blocks\.(\d+)\.(mlp\.experts\.)?(?(2)(\d+)\.)(.*)")


def canonical(
    where: Path,
    config: ModelConfig,
    stored: Mapping[str, Stored],
    sources: Mapping[str, Source],
    prefix: str = "",
    ignored: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """The canonical tensors of a checkpoint; nothing is read.

    Raises CheckpointError where a tensor is missing, has a shape that disagrees with `config`, has a type that is not
    a supported float, or where the file holds a tensor that the family does not know: a sign of another architecture;
    and, when the embedding is read, where a tied head beside it differs.
    """
    by_name = _without_prefix(where, stored, prefix)
    if config.tied_head:
        _tie(where, by_name, sources)
    if config.n_layer > len(by_name):  # before a name is made for each
        raise CheckpointError(f"{where}: {len(by_name)} tensors cannot be those of {config.n_layer} layers")
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    try:
        shapes = config.tensor_shapes()
    except ConfigError as error:  # sizes beyond those that the core can hold
        raise ConfigError(f"{where}: {error}") from None
    for (stored_name, _), whole in _wholes(config, shapes, sources).items():
        if found := next((name for name in (stored_name, whole.also) if name in by_name), None):
            used.add(found)
            tensors |= _tensors(by_name[found], whole)
        elif whole.source.zero_bias and not whole.is_weight:
            tensors |= {name: _zeros(where, name, shape) for name, shape in whole.sections.items()}
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
    return {name: tensors[name] for name in shapes}


def stored(
    config: ModelConfig, tensors: Mapping[str, ArrayLike], sources: Mapping[str, Source], prefix: str = ""
) -> dict[str, NDArray[np.float32]]:
    """The inverse of `canonical`: float32 arrays by stored name, as views where nothing has to be joined or converted.

    The head stands outside of the model that `prefix` names. Rows that are never read become 0. Raises ValueError for a
    tensor that is missing, unknown, or of a shape other than `config` gives.
    """
    shapes = config.tensor_shapes()
    if unlike := sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"tensor {unlike[0]} is {'missing' if unlike[0] in shapes else 'not part of this model'}")
    arrays: dict[str, NDArray[np.float32]] = {}
    stacks: dict[str, list[NDArray[np.float32]]] = {}
    for (stored_name, expert), whole in _wholes(config, shapes, sources).items():
        pieces = []
        for name, shape in whole.sections.items():
            pieces.append(np.asarray(tensors[name], np.float32))
            if pieces[-1].shape != shape:
                raise ValueError(f"tensor {name} must have the shape {shape}, not {pieces[-1].shape}")
        if whole.source.zero_bias and not whole.is_weight and not any(piece.any() for piece in pieces):
            continue
        outside = all(name.startswith("head.") for name in whole.sections)
        full_name = stored_name if outside else prefix + stored_name
        if expert is None:
            arrays[full_name] = _joined(pieces, whole)
        else:
            stacks.setdefault(full_name, []).append(_joined(pieces, whole))
    return arrays | {name: np.stack(parts) for name, parts in stacks.items()}


def _joined(pieces: list[NDArray[np.float32]], whole: _Whole) -> NDArray[np.float32]:
    """The sections as the file holds them."""
    source, groups = whole.source, whole.groups
    if source.interleaved:
        pieces = [_swap_pairs(piece, 2, whole.head_dim // 2) for piece in pieces]
    if source.minus_one and whole.is_weight:
        pieces = [piece - np.float32(1) for piece in pieces]
    if len(pieces) > 1:
        rest = pieces[0].shape[1:]
        shares = [piece.reshape(groups, len(piece) // groups, *rest) for piece in pieces]
        pieces = [np.concatenate(shares, axis=1).reshape(-1, *rest)]
    values = pieces[0]
    if source.skip:
        values = np.concatenate([np.zeros((source.skip, *values.shape[1:]), np.float32), values])
    return values.T if source.transposed else values


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
    embed, head = f"{sources['embed'].module}.weight", sources["head"]
    copy = by_name.pop(f"{head.module}.weight", None) or by_name.pop(f"{head.also}.weight", None)
    if copy is None:
        return
    kept = by_name.setdefault(embed, copy)
    if (kept.shape, kept.kind) != (copy.shape, copy.kind):
        raise _not_tied(where, kept, copy)
    if kept.read is not copy.read:  # else one tensor under two names
        by_name[embed] = kept._replace(read=functools.partial(_read_tied, where, kept, copy))


def _not_tied(where: Path, kept: Stored, copy: Stored) -> CheckpointError:
    return CheckpointError(
        f"{where}: {copy.name!r} differs from {kept.name!r}, but the configuration says that they are one: is "
        "tie_word_embeddings wrong?"
    )


def _read_tied(where: Path, kept: Stored, copy: Stored) -> NDArray[np.generic]:
    """The embedding, once it was compared with the head."""
    x, y = kept.read(), copy.read()
    step = max(1, (1 << 20) // max(1, math.prod(kept.shape[1:])))
    for i in range(0, len(x), step):
        if not np.array_equal(x[i : i + step], y[i : i + step]):
            raise _not_tied(where, kept, copy)
        forget(x)
        forget(y)
    return x


class _Whole(NamedTuple):
    """A stored tensor, and the canonical ones that are sections of it, with their shapes, in its order."""

    source: Source
    also: str  # another name for it
    is_weight: bool
    groups: int  # each holds an equal share of every section
    head_dim: int
    expert: tuple[int, int] | None  # it is that one of so many along the first axis
    sections: dict[str, tuple[int, ...]]


def _wholes(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], sources: Mapping[str, Source]
) -> dict[tuple[str, int | None], _Whole]:
    """Every tensor that a checkpoint of this configuration holds, by its stored name, and an expert's place where it
    holds several."""
    order = {module: index for index, module in enumerate(sources)}
    found = []
    for name in shapes:
        module, _, kind = name.rpartition(".")
        layer, expert, general = "", "", module
        if match := _LAYER.fullmatch(module):
            layer, expert, rest = match[1], match[3] or "", match[4]
            general = f"blocks.{{i}}.{'mlp.experts.{e}.' if expert else ''}{rest}"
        found.append((order[general], name, sources[general], layer, expert, kind))
    wholes: dict[tuple[str, int | None], _Whole] = {}
    for _, name, source, layer, expert, kind in sorted(found, key=lambda item: item[0]):
        end = source.ends.get(kind, f".{kind}")
        stored_name, also = (
            n.replace("{i}", layer).replace("{e}", expert) + end for n in (source.module, source.also or source.module)
        )
        groups = getattr(config, source.groups) if source.groups else 1
        place: tuple[int, int] | None = None
        if expert and "{e}" not in source.module and (experts := config.layers[int(layer)].experts) is not None:
            place = (int(expert), experts.n_expert)
        whole = _Whole(source, also, kind == "weight", groups, config.head_dim, place, {})
        wholes.setdefault((stored_name, place[0] if place else None), whole).sections[name] = shapes[name]
    position = {name: index for index, name in enumerate(shapes)}  # layer by layer, as a file is written
    return dict(sorted(wholes.items(), key=lambda item: min(position[name] for name in item[1].sections)))


def _zeros(where: Path, name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, shape, "float32", functools.partial(np.zeros, shape, np.float32), f"{where}: no tensor")


def _tensors(stored: Stored, whole: _Whole) -> dict[str, Tensor]:
    """The canonical tensors that one stored tensor holds."""
    source, shapes = whole.source, list(whole.sections.values())
    expected = (source.skip + sum(shape[0] for shape in shapes), *shapes[0][1:])
    if source.transposed:
        expected = expected[::-1]
    if whole.expert is not None:
        expected = (whole.expert[1], *expected)
    if expected[0] == 1 and stored.shape == expected[1:]:  # ggml has no place for a last size of 1
        stored = stored._replace(shape=expected, read=functools.partial(_as_matrix, stored))
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name!r} has shape {list(stored.shape)}, but the configuration asks for "
            f"{list(expected)}"
        )
    if whole.expert is not None:
        stored = stored.part(whole.expert[0])
    if source.transposed:
        stored = stored.plain()
    if (stored_kind := stored.kind) is None:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name!r} has dtype {stored.dtype}, but weights must be F32, F16 or BF16"
        )
    tensors: dict[str, Tensor] = {}
    begin = 0
    plus_one = source.minus_one and whole.is_weight
    for name, shape in whole.sections.items():
        rows = slice(begin, begin := begin + shape[0] // whole.groups)
        view = functools.partial(_view, stored, whole, rows)
        read = functools.partial(_plus_one, view, stored_kind) if plus_one else view
        kind = "float32" if plus_one else stored_kind
        tensors[name] = Tensor(name, shape, kind, read, f"{stored.file}: tensor {stored.name!r}")
    return tensors


def _view(stored: Stored, whole: _Whole, rows: slice) -> NDArray[np.generic]:
    """These rows of every group as (outputs, inputs) or (outputs,): a view, unless they have to change places."""
    values = stored.read()
    if whole.source.transposed:
        values = values.T
    values = values[whole.source.skip :]
    if whole.groups > 1:
        rest = values.shape[1:]
        values = values.reshape(whole.groups, -1, *rest)[:, rows].reshape(-1, *rest)
    else:
        values = values[rows]
    return _swap_pairs(values, whole.head_dim // 2, 2) if whole.source.interleaved else values


def _as_matrix(stored: Stored) -> NDArray[np.generic]:
    return stored.read()[None]


def _swap_pairs(values: NDArray[_T], first: int, second: int) -> NDArray[_T]:
    """Row 2i of a head is paired with row 2i + 1 where rotary is interleaved, i with i + head_dim / 2 where it is not:
    from the one order to the other by (head_dim / 2, 2), and back by (2, head_dim / 2)."""
    pairs = values.reshape(-1, first, second, *values.shape[1:])
    swapped: NDArray[_T] = pairs.swapaxes(1, 2).reshape(values.shape)
    return swapped


def _plus_one(read: Callable[[], NDArray[np.generic]], kind: str) -> NDArray[np.float32]:
    sums: NDArray[np.float32] = numbers(read(), kind).astype(np.float32) + np.float32(1)
    return sums
