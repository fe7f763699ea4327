"""Quantised GGUF blocks to float32.

Q8_0, Q4_0 and Q4_1 are done here, in whole chunks that stay in the cache: two to four times as fast as the package
`gguf`, whose dequantisation does the other types (and whose import alone takes 0.1 s). Tests hold the results equal,
bit for bit, to the package's. Format of the blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.gguf_file import QuantType
from pygpt.errors import CheckpointError

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
_CHUNK = 1 << 17  # values at a time: 512 KiB of float32
_LOW_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_Q4_0 = np.dtype([("scale", "<f2"), ("q", "V16")])
_Q4_1 = np.dtype([("scale", "<f2"), ("least", "<f2"), ("q", "V16")])
_Q8_0 = np.dtype([("scale", "<f2"), ("q", "V32")])


def _nibbles(packed: NDArray[np.void]) -> U8:
    """(n,) blocks of 16 bytes -> (n, 32): the low halves of all bytes, then the high halves."""
    words = np.ascontiguousarray(packed).view(np.uint64)
    out = np.empty((len(packed), 2), "V16")
    out[:, 0] = (words & _LOW_NIBBLES).view("V16")
    words >>= np.uint64(4)
    words &= _LOW_NIBBLES
    out[:, 1] = words.view("V16")
    return out.view(np.uint8)


def _q4_0(blocks: U8, out: F32) -> None:
    fields = blocks.view(_Q4_0)[:, 0]
    np.copyto(out, _nibbles(fields["q"]))
    out -= np.float32(8)
    out *= fields["scale"].astype(np.float32)[:, None]


def _q4_1(blocks: U8, out: F32) -> None:
    fields = blocks.view(_Q4_1)[:, 0]
    np.copyto(out, _nibbles(fields["q"]))
    out *= fields["scale"].astype(np.float32)[:, None]
    out += fields["least"].astype(np.float32)[:, None]


def _q8_0(blocks: U8, out: F32) -> None:
    fields = blocks.view(_Q8_0)[:, 0]
    np.copyto(out, np.ascontiguousarray(fields["q"]).view(np.int8).reshape(out.shape))
    out *= fields["scale"].astype(np.float32)[:, None]


_OWN: dict[str, Callable[[U8, F32], None]] = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}


def _package(quant: QuantType) -> Callable[[U8, F32], None]:
    """The package's dequantisation of one type."""
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(
            f"{quant.name} tensors are read with the package gguf, which is not installed: "
            "pip install 'pygpt-cpu[gguf]'"
        ) from error
    kind = gguf.GGMLQuantizationType[quant.name]

    def run(blocks: U8, out: F32) -> None:
        out[...] = gguf.quants.dequantize(blocks.reshape(1, -1), kind).reshape(out.shape)

    return run


def dequantizer(quant: QuantType) -> Callable[[NDArray[np.generic]], F32]:
    """A function from a tensor's bytes, (n_bytes,) uint8, to its values, (n,) float32; usable from several threads.

    Raises CheckpointError where the type needs the package `gguf` and that is not installed.
    """
    return functools.partial(_dequantize, quant, _OWN.get(quant.name) or _package(quant))


def _dequantize(quant: QuantType, run: Callable[[U8, F32], None], raw: NDArray[np.generic]) -> F32:
    blocks = raw.view(np.uint8).reshape(-1, quant.nbytes)
    out = np.empty((len(blocks), quant.block), np.float32)
    step = _CHUNK // quant.block
    with np.errstate(all="ignore"):  # a damaged file's scale may be infinite
        for i in range(0, len(blocks), step):
            run(blocks[i : i + step], out[i : i + step])
    return out.reshape(-1)
