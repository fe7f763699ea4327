"""The packed weights of a saved checkpoint as single tensors again: for training, and for another format of weights.

docs/formats.md describes the layout. float32, bfloat16 and MXFP4 come back as they were packed. Of int8 comes back what
the engine computes with, scale * (q H), without rounding: a sum of 128 int8 values times a bfloat16 scale fits a
float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.checkpoint.saved import INT8_GROUP, Saved
from pygpt.checkpoint.tensor import Tensor
from pygpt.errors import CheckpointError

_PANEL = 16  # channels


class _Place(NamedTuple):
    """Where a tensor's rows lie among the channels of a packed matrix or vector."""

    name: str
    first: int
    step: int  # from a panel of rows to the next

    def channels(self, rows: int) -> NDArray[np.intp]:
        row = np.arange(rows)
        return self.first + row // _PANEL * self.step + row % _PANEL


def unpacked(saved: Saved) -> dict[str, Tensor]:
    """The tensors of ``config.tensor_shapes()``, unpacked anew each time they are asked for.

    Raises CheckpointError where the file does not hold what its configuration asks for, and for a damaged scale when a
    tensor is asked for.
    """
    config = saved.config
    isa = _core.select_isa(None)
    path = saved.file.file.path
    builder = _core.EngineBuilder(config.for_core(), weights=saved.weights, kv="float32", threads=1, isa=isa)
    try:
        wanted = builder.packed(saved.blocks())
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    arrays = saved.arrays(wanted)
    tensors: dict[str, Tensor] = {}
    for name, (shape, whole, first, step) in config.tensor_places().items():
        place = _Place(whole, first, step)
        packed = arrays[place.name]
        read: Callable[[], NDArray[np.generic]]
        stored, dtype = wanted[place.name][0], "float32"
        if packed.ndim == 1:
            read = functools.partial(_vector, packed, place, shape)
        elif stored == "uint8":
            dtype = "MXFP4 pairs"
            read = functools.partial(_mxfp4, packed, place, shape)
        elif stored == "int8":
            scales = arrays[f"{place.name}.scales"]
            read = functools.partial(_int8, packed, scales, place, shape, f"{path}: tensor {place.name!r}")
        else:
            dtype = stored
            read = functools.partial(_plain, packed, place, shape)
        tensors[name] = Tensor(name, shape, dtype, read, f"{path}: tensor {place.name!r}")
    return tensors


def _vector(packed: NDArray[np.generic], place: _Place, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """A bias or a norm's gain (n,), or the positions (n_ctx, n_embd), which are not packed."""
    return packed.reshape(shape) if len(shape) == 2 else packed[place.channels(shape[0])]


def _plain(packed: NDArray[np.generic], place: _Place, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """[panels][k][16] -> (n, k)."""
    rows: NDArray[np.generic] = packed.transpose(0, 2, 1).reshape(-1, shape[1])
    return rows[place.channels(shape[0])]


def _mxfp4(packed: NDArray[np.generic], place: _Place, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """[panels][k / 32][17][16] -> rows of blocks (n, 17 k / 32), each its scale and then its values."""
    rows: NDArray[np.generic] = packed.transpose(0, 3, 1, 2).reshape(len(packed) * _PANEL, -1)
    return rows[place.channels(shape[0])]


def _int8(
    packed: NDArray[np.generic], scales: NDArray[np.generic], place: _Place, shape: tuple[int, ...], where: str
) -> NDArray[np.float32]:
    """[panels][K / 4][16][4] and scales [panels][groups][16] -> (n, k)."""
    channels = place.channels(shape[0])
    q = packed.transpose(0, 2, 1, 3).reshape(len(packed) * _PANEL, -1)[channels].astype(np.float32)
    upper = scales.transpose(0, 2, 1).reshape(len(packed) * _PANEL, -1)[channels].astype(np.uint32)
    factors = (upper << 16).view(np.float32)
    if not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise CheckpointError(f"{where}: a scale is negative, infinite or NaN")
    for group, at in enumerate(range(0, q.shape[1], INT8_GROUP)):
        part = q[:, at : at + INT8_GROUP]
        part[...] = part @ _hadamard(part.shape[1])
        part *= factors[:, group : group + 1]
    return np.ascontiguousarray(q[:, : shape[1]])


@functools.cache
def _hadamard(size: int) -> NDArray[np.float32]:
    """Sylvester's matrix of +1 and -1; the size is a power of 2."""
    h = np.ones((1, 1), np.float32)
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h
