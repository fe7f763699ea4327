"""MXFP4 as Hugging Face stores it: a tensor of blocks and one of their scales become one, which is read block by block.

Names, shapes and the order of the halves are those of transformers' integrations/mxfp4.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.tensor import Stored
from pygpt.errors import CheckpointError

BLOCKS, SCALES = "_blocks", "_scales"
_BYTES, _VALUES = 16, 32  # of a block; its two neighbouring values share a byte
_BLOCK = np.dtype([("scale", "u1"), ("values", f"V{_BYTES}")])


def with_scales(found: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors of a file, each of blocks, (E, rows, n, 16) uint8 under NAME_blocks, joined with its scales,
    (E, rows, n) under NAME_scales, to one of (E, rows, 32 n) values that keeps its name. CheckpointError where the two
    do not belong together."""
    joined = dict(found)
    for name, blocks in found.items():
        if not name.endswith(BLOCKS) or blocks.dtype != "U8":
            continue
        scales = joined.pop(name.removesuffix(BLOCKS) + SCALES, None)
        if scales is None:
            raise CheckpointError(f"{blocks.file}: holds {name!r} without its scales")
        if scales.dtype != "U8" or blocks.shape != (*scales.shape, _BYTES):
            raise CheckpointError(
                f"{blocks.file}: {name!r} is {blocks.dtype} of shape {list(blocks.shape)} and {scales.name!r} "
                f"{scales.dtype} of {list(scales.shape)}, but they must be U8 of [..., {_BYTES}] and [...]"
            )
        joined[name] = _joined(blocks, scales)
    return joined


def _joined(blocks: Stored, scales: Stored) -> Stored:
    shape = (*scales.shape[:-1], scales.shape[-1] * _VALUES)
    return blocks._replace(
        shape=shape,
        kind="MXFP4 pairs",
        read=lambda: _side_by_side(blocks.read(), scales.read()),
        read_part=lambda place: _side_by_side(blocks.read()[place], scales.read()[place]),
    )


def _side_by_side(blocks: NDArray[np.generic], scales: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(..., n, 16) and (..., n) -> rows of blocks (..., 17 n), each its scale and then its values."""
    out = np.empty(scales.shape, _BLOCK)
    out["scale"] = scales
    out["values"] = blocks.view(f"V{_BYTES}")[..., 0]
    return out.view(np.uint8).reshape(*scales.shape[:-1], -1)
