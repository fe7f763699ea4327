"""Quantised tensors of GGUF files: the same bits as the package gguf gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import Model, _core, checkpoint
from pygpt.checkpoint.gguf_file import QUANT_TYPES

gguf = pytest.importorskip("gguf")

Array = NDArray[Any]
QUANTISED = {number: kind for number, kind in QUANT_TYPES.items() if kind.block > 1}
CAN_QUANTISE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]  # the package dequantises the others only
PAIRS = "MXFP4 pairs"  # as the package `gguf` does not know it
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "Q8_K": (), "MXFP4": ()}  # where scales lie; or at 0 and 2


def expected_values(name: str, blocks: Array) -> Array:
    """(n, bytes) -> (n, values), by the package, or by the description of the one type that it leaves out."""
    if name == "Q8_K":
        scales, q = blocks[:, :4].copy().view(np.float32), blocks[:, 4:260].view(np.int8)
        return scales * q.astype(np.float32)
    return np.asarray(gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]))


def test_the_types() -> None:
    assert {kind.name for kind in QUANTISED.values()} | {PAIRS} == set(_core.block_formats())
    for number, (name, values, nbytes) in QUANT_TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        assert (kind.value, gguf.GGML_QUANT_SIZES[kind]) == (number, (values, nbytes))


@pytest.mark.parametrize("name", [name for name in _core.block_formats() if name != PAIRS])
def test_dequantisation_equals_the_packages(name: str) -> None:
    """On random blocks, whose scales are random float16 with infinities, NaNs and subnormals; on extreme scales, one
    after the other in every place that might hold one; and on real blocks."""
    values, nbytes = _core.block_formats()[name]
    rng = np.random.default_rng(5)
    samples = [rng.integers(0, 256, (n, nbytes), dtype=np.uint8) for n in (1, 3, 5000)]
    for scale in (0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0x7E00):
        blocks = rng.integers(0, 256, (nbytes // 2, nbytes), dtype=np.uint8)
        for i, block in enumerate(blocks):
            block[2 * i : 2 * i + 2] = np.array([scale], np.uint16).view(np.uint8)
        samples.append(blocks)
    samples += [np.full((1, nbytes), byte, np.uint8) for byte in range(256)]
    if name in CAN_QUANTISE:
        floats = rng.standard_normal((7, 96), dtype=np.float32)
        samples.append(gguf.quants.quantize(floats, gguf.GGMLQuantizationType[name]).reshape(-1, nbytes))
    for blocks in samples:
        with np.errstate(all="ignore"):
            expected = expected_values(name, blocks).reshape(-1, values).copy()
        got = _core.dequantize(name, blocks)
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        got[np.isnan(got)] = expected[np.isnan(expected)] = np.nan  # whose payload is anyone's
        np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_mxfp4_whose_neighbours_share_a_byte() -> None:
    blocks = np.random.default_rng(8).integers(0, 256, (500, 17), dtype=np.uint8)
    nibbles = np.stack([blocks[:, 1:] & 15, blocks[:, 1:] >> 4], axis=2).reshape(-1, 32)  # in order
    other = blocks.copy()
    other[:, 1:] = nibbles[:, :16] | nibbles[:, 16:] << 4
    np.testing.assert_array_equal(_core.dequantize(PAIRS, blocks), _core.dequantize("MXFP4", other))


def test_what_is_no_block() -> None:
    with pytest.raises(ValueError, match=r"name='Q9_9' is not one of 'Q4_0', "):
        _core.dequantize("Q9_9", np.zeros((1, 18), np.uint8))
    for blocks in (np.zeros((1, 17), np.uint8), np.zeros(18, np.uint8), np.zeros((1, 18), np.int8)):
        with pytest.raises(ValueError, match=r"blocks must be a C-contiguous array of uint8 of shape \(n, 18, \)"):
            _core.dequantize("Q4_0", blocks)


@pytest.fixture
def wide(llama: Any) -> Any:
    """The fixture's Llama with rows of 256 values, whose blocks are random."""
    rng = np.random.default_rng(6)
    llama.config |= {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "vocab_size": 37}
    sizes = {8: 256, 12: 256, 11: 37, 16: 256}
    for name, array in llama.tensors.items():
        rows = 128 if "k_proj" in name or "v_proj" in name else sizes[len(array)]
        llama.tensors[name] = rng.standard_normal((rows, 256)[: array.ndim], dtype=np.float32) / 16
    return llama


@pytest.mark.parametrize("name", [name for name in _core.block_formats() if name != PAIRS])
def test_a_model_of_blocks_is_that_of_their_values(writer: Any, tmp_path: Path, wide: Any, name: str) -> None:
    """Packed piece by piece, in every format of weights, and with the rows of q and k in another order; the logits are
    those of the same values in float32."""
    values, nbytes = _core.block_formats()[name]
    rng = np.random.default_rng(7)
    arrays = writer.llama_tensors(wide.tensors, 4, 2)
    blocks: dict[str, Array] = {}
    for key, array in arrays.items():
        if array.ndim == 2:
            raw = rng.integers(0, 256, (array.size // values, nbytes), dtype=np.uint8)
            for at in (
                (96, 108) if name == "Q3_K" else (80, 82) if name == "Q2_K" else (208,) if name == "Q6_K" else (0, 2)
            ):
                raw[:, at : at + 2] = np.full(1, 0x1400, np.uint16).view(np.uint8)  # a small scale
            if name == "Q8_K":
                raw[:, :4] = np.full(1, 1e-3, np.float32).view(np.uint8)
            if name == "MXFP4":
                raw[:, 0] = 124
            blocks[key] = raw.reshape(len(array), -1)
            arrays[key] = expected_values(name, raw).reshape(array.shape)
    metadata = writer.llama_metadata(wide.config)
    plain = writer.write(tmp_path / "plain.gguf", "llama", metadata, arrays, {})
    packed = writer.write(tmp_path / "packed.gguf", "llama", metadata, arrays | blocks, dict.fromkeys(blocks, name))
    config, tensors, _ = checkpoint.read(packed)
    for key, tensor in checkpoint.read(plain)[1].items():
        np.testing.assert_array_equal(np.asarray(tensors[key]), np.asarray(tensor), err_msg=key)
    assert tensors["blocks.1.attn.q.weight"].dtype == name
    assert config.n_embd == 256
    for weights in ("float32", "bfloat16", "int8"):
        logits = [Model.load(path, weights=weights, threads=2).logits([1, 2, 3]) for path in (plain, packed)]
        assert np.isfinite(logits[0]).all()
        np.testing.assert_array_equal(logits[0], logits[1])
