"""bfloat16 in NumPy, which has no such type: its 16 bits, the upper half of a float32, as uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.training.primitives import Array

Bits = NDArray[np.uint16]


def rounded(x: NDArray[Any]) -> Bits:
    """To nearest, ties to even; a NaN stays one."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    nearest = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, nearest).astype(np.uint16)


def widened(bits: NDArray[Any]) -> Array:
    """As float32, which holds all of bfloat16's numbers."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
