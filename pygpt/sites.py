"""The places inside a forward pass that a trace shows and a patch changes: their names, shapes and checks."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt.config import ModelConfig
from pygpt.errors import check_type

SiteName = Literal[
    "embedding", "queries", "keys", "values", "heads", "attention_out", "after_attention", "neurons", "mlp_out",
    "hidden",
]  # fmt: skip
NAMES: tuple[str, ...] = get_args(SiteName)
"""In the order in which a pass comes to them."""

Value: TypeAlias = float | ArrayLike
_Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Site:
    """A place inside a forward pass, for `Model.trace` to patch.

    name: the field of `Trace` that holds what is there: "embedding", "queries", "keys", "values", "heads",
        "attention_out", "after_attention", "neurons", "mlp_out" or "hidden".
    layer: which block, counted from 0, or from the end with -1; "embedding" has none.
    index: one head of "queries", "keys", "values" or "heads", one of the "neurons"; None: all of them. No other name
        takes one.
    tokens: one position or several; None: all. -1 is the last one.

    A value has the shape that the trace's array has at this place, or one that NumPy broadcasts to it::

        Site("hidden", 3)              (T, C)      the stream after block 3
        Site("hidden", 3, tokens=-1)   (C,)        at the last token
        Site("heads", 2, 1)            (T, D)      what head 1 of block 2 gives
        Site("neurons", 0, 17)         (T,)        one neuron of the first MLP
    """

    name: SiteName
    layer: int | None = None
    index: int | None = None
    tokens: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in NAMES:
            raise ValueError(f"a site must be one of {', '.join(NAMES)}, not {self.name!r:.80}")
        if (self.layer is None) != (self.name == "embedding"):
            raise ValueError("the embedding has no layer" if self.layer is not None else f"{self.name} needs a layer")
        for name in ("layer", "index"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _integer(name, getattr(self, name)))
        if self.index is not None and not (self.name == "neurons" or is_by_head(self.name)):
            raise ValueError(f"{self.name} has no heads and no neurons, so index must be None, not {self.index}")
        if _is_several(self.tokens):
            object.__setattr__(self, "tokens", tuple(_integer("tokens", t) for t in self.tokens))  # type: ignore[union-attr]
        elif self.tokens is not None:
            object.__setattr__(self, "tokens", _integer("tokens", self.tokens))


class Patch(NamedTuple):
    """What a site's value comes to in rows, a row a token: heads lie side by side in it."""

    name: str
    layer: int
    first: int  # column
    tokens: NDArray[np.int64]  # (P,)
    values: NDArray[np.float64]  # (P, columns)


def read_layers(layers: Sequence[int] | None, config: ModelConfig) -> tuple[int, ...]:
    """Layers from outside, counted from 0. TypeError, ValueError: not integers, not of this model, or one twice."""
    if layers is None:
        return tuple(range(config.n_layer))
    if not _is_several(layers):
        raise TypeError(f"layers must be a sequence of integers, not {layers!r:.80}")
    found = tuple(place("layer", layer, config.n_layer) for layer in layers)
    if len(set(found)) < len(found):
        raise ValueError(f"layers must differ from each other, not {list(found)}")
    return found


def read_patches(patch: Mapping[Site, Value] | None, config: ModelConfig, n_token: int) -> list[Patch]:
    """The patches of a sequence of so many tokens. TypeError, ValueError: not sites of this model and sequence, or a
    value that is not as `Site` says."""
    check_type("patch", patch, Mapping, type(None))
    return [_read_patch(site, value, config, n_token) for site, value in (patch or {}).items()]


def patched(patches: Sequence[Patch], name: str, layer: int, x: _Floats) -> _Floats:
    """The values of a place, (T, width) or (heads, T, D), with those patches of it."""
    for patch in patches:
        if (patch.name, patch.layer) == (name, layer):
            rows = x.copy() if x.ndim == 2 else x.swapaxes(0, 1).reshape(x.shape[1], -1)  # (T, heads D)
            rows[patch.tokens, patch.first : patch.first + patch.values.shape[1]] = patch.values
            x = rows if x.ndim == 2 else rows.reshape(len(rows), len(x), -1).swapaxes(0, 1)
    return x


def width(name: str, config: ModelConfig, layer: int) -> int:
    """How many values a token has at this place of a block; 0: there is no such place."""
    if is_by_head(name):
        return (config.n_kv_head if name in ("keys", "values") else config.n_head) * config.head_dim
    if name == "neurons":
        return 0 if config.layers[layer].experts else config.n_inner
    return config.n_embd


def shape(name: str, config: ModelConfig, n_token: int) -> tuple[int, ...]:
    """What a trace holds of this place for a layer that has it: (T, width) or (heads, T, D)."""
    if is_by_head(name):
        return width(name, config, 0) // config.head_dim, n_token, config.head_dim
    return n_token, config.n_inner if name == "neurons" else config.n_embd


def has(name: str, config: ModelConfig, layers: Sequence[int]) -> bool:
    """Whether one of the layers has this place."""
    return name != "neurons" or any(width(name, config, layer) for layer in layers)


def is_by_head(name: str) -> bool:
    """Whether the values are those of heads."""
    return name in ("queries", "keys", "values", "heads")


def place(name: str, i: int, n: int) -> int:
    """i, or n + i where it counts from the end. TypeError, ValueError: no integer, or there is no such place."""
    i = _integer(name, i)
    if not -n <= i < n:
        raise ValueError(f"{name} {i} is outside 0 to {n - 1}, or {-n} to -1 from the end")
    return i % n


def _read_patch(site: Site, value: Value, config: ModelConfig, n_token: int) -> Patch:
    check_type("a key of patch", site, Site)
    layer = 0 if site.layer is None else place("layer", site.layer, config.n_layer)
    n = width(site.name, config, layer)
    if n == 0:
        raise ValueError(f"layer {layer} is a mixture of experts, which has no neurons that all tokens share")
    of_one = isinstance(site.tokens, int)
    every = range(n_token) if site.tokens is None else (site.tokens,) if isinstance(site.tokens, int) else site.tokens
    tokens = np.array([place("token", t, n_token) for t in every], np.int64)
    by_head = is_by_head(site.name)
    columns = n if site.index is None else config.head_dim if by_head else 1
    first = 0 if site.index is None else columns * place("index", site.index, n // columns)
    shape: tuple[int, ...] = () if of_one else (len(tokens),)  # as the trace has it
    if by_head or site.index is None:
        shape = (*shape, config.head_dim if by_head else n)
    if by_head and site.index is None:
        shape = (n // config.head_dim, *shape)
    values = _broadcast(site, value, shape)
    if by_head and site.index is None:
        values = np.moveaxis(values, 0, -2)  # heads side by side
    return Patch(site.name, layer, first, tokens, values.reshape(len(tokens), columns))


def _broadcast(site: Site, value: Value, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The value as an array of this shape."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty((0, 0))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"the value of {site} must be a number or an array of them, not {value!r:.80}")
    try:
        found = np.broadcast_to(array, shape).astype(np.float64)
    except ValueError:
        raise ValueError(f"the value of {site} must have the shape {shape}, not {array.shape}") from None
    if not (np.abs(found) <= np.finfo(np.float32).max).all():
        raise ValueError(f"the value of {site} must be finite numbers of float32")
    return found


def _is_several(value: object) -> bool:
    """Whether it is a sequence or an array, of whatever; a text is none."""
    return (
        value.ndim > 0 if isinstance(value, np.ndarray) else isinstance(value, Sequence) and not isinstance(value, str)
    )


def _integer(name: str, value: object) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r:.80}") from None
