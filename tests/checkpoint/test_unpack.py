"""Saved checkpoints as single tensors again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import Model, ModelConfig, checkpoint
from pygpt.errors import CheckpointError
from pygpt.training.architecture import architecture
from pygpt.training.parameters import Parameters

CONFIGS = {  # neither channels nor inputs fill panels and groups; 130 inputs are a group of 128 and a half one
    "gpt2": architecture("gpt2", n_vocab=37, n_ctx=6, n_layer=2, n_head=2, n_embd=50),
    "gpt1": architecture("gpt1", n_vocab=5, n_ctx=6, n_layer=1, n_head=1, n_embd=130),
    "llama": architecture("llama", n_vocab=20, n_ctx=6, n_layer=2, n_head=4, n_kv_head=2, n_embd=72),
}
CONFIGS["sinusoidal"] = replace(CONFIGS["gpt2"], learned_positions=False, sinusoidal_positions=True)


def random(config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    params = Parameters(config)
    params.flat[...] = np.random.default_rng(7).standard_normal(params.flat.shape, np.float32)
    return dict(params.tensors)


def saved(tensors: dict[str, NDArray[np.float32]], config: ModelConfig, weights: Any, folder: Path) -> Path:
    Model.from_tensors(config, tensors, weights=weights, threads=1).save(folder)
    return folder


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_floats_come_back_as_they_were(config: ModelConfig, weights: str, tmp_path: Path) -> None:
    tensors = random(config)
    for name, values in tensors.items():
        if weights == "bfloat16" and values.ndim == 2 and name != "pos.weight":  # what bfloat16 can hold
            values.view(np.uint32)[...] &= 0xFFFF0000
    folder = saved(tensors, config, weights, tmp_path / "out")
    for path in (folder, folder / "model.safetensors"):
        found_config, found, tokenizer = checkpoint.read(path)
        assert (found_config, tokenizer) == (config, None)
        assert list(found) == list(config.tensor_shapes())
        for name, values in tensors.items():
            assert found[name].shape == values.shape
            np.testing.assert_array_equal(np.asarray(found[name]), values, err_msg=name)


def dequantised(q: NDArray[np.int8], scales: NDArray[np.uint16], row: int, k: int) -> list[float]:
    """One channel by the formulas of docs/formats.md, one value at a time."""
    panel, lane = divmod(row, 16)
    values = []
    for i in range(k):
        group, size = i // 128, 128 if k - i // 128 * 128 > 64 else 64
        scale = np.array([scales[panel, group, lane]], np.uint32) << 16
        total = 0
        for j in range(size):
            at = group * 128 + j
            sign = -1 if bin(j & (i % 128)).count("1") % 2 else 1
            total += sign * int(q[panel, at // 4, lane, at % 4])
        values.append(float(scale.view(np.float32)[0]) * total)
    return values


# Their rows, and the columns of what they feed, have other sizes in int8 (csrc/model/balance.h).
FEEDING, FED = (".attn.v", ".mlp.up"), (".attn.out", ".mlp.down")
READS = {
    "attn.q": "attn_norm",
    "attn.k": "attn_norm",
    "attn.v": "attn_norm",
    "mlp.gate": "mlp_norm",
    "mlp.up": "mlp_norm",
}


def balance(found: NDArray[np.float32], values: NDArray[np.float32], module: str) -> NDArray[np.float32]:
    """By how much the rows or columns of a matrix were multiplied, the least squares' answer."""
    if not module.endswith(FEEDING + FED):
        return np.ones((1, 1), np.float32)
    axis = 1 if module.endswith(FEEDING) else 0
    factors: NDArray[np.float32] = (found * values).sum(axis, keepdims=True) / np.square(values).sum(
        axis, keepdims=True
    )
    assert (factors > 0).all()
    return factors


def test_int8_gives_what_the_engine_multiplies(config: ModelConfig, tmp_path: Path) -> None:
    tensors = random(config)
    folder = saved(tensors, config, "int8", tmp_path / "out")
    file = safetensors(folder)
    _, found, _ = checkpoint.read(folder)
    q_rows, kv_rows = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    up_rows = {i: i // 16 * 32 + 16 + i % 16 if config.gated_mlp else i for i in (0, 15, 16, config.n_inner - 1)}
    cases = [("embed", "embed", 3, 3), ("blocks.0.mlp.down", "blocks.0.mlp.down", config.n_embd - 1, config.n_embd - 1)]
    cases += [("blocks.0.mlp.up", "blocks.0.mlp.up", row, channel) for row, channel in up_rows.items()]
    cases += [("blocks.0.attn.q", "blocks.0.attn.qkv", 1, 1), ("blocks.0.attn.k", "blocks.0.attn.qkv", 17, q_rows + 17)]
    cases += [("blocks.0.attn.v", "blocks.0.attn.qkv", 4, q_rows + kv_rows + 4)]
    if config.gated_mlp:
        cases.append(("blocks.0.mlp.gate", "blocks.0.mlp.up", 40, 72))
    for name, packed, row, channel in cases:
        values = np.asarray(found[f"{name}.weight"])
        matrix, scales = file[f"{packed}.weight"], file[f"{packed}.weight.scales"]
        assert values[row].tolist() == dequantised(matrix, scales, channel, values.shape[1]), name

    def of_norm(block: str, norm: str) -> NDArray[np.float32]:
        """By how much what an RMSNorm gives was multiplied: the root of the norms of a matrix's columns."""
        values: NDArray[np.float32] = np.asarray(found[f"{block}.{norm}.weight"], np.float32)
        factors: NDArray[np.float32] = values / tensors[f"{block}.{norm}.weight"]
        expected: NDArray[Any] = np.ones_like(factors)
        if config.norm == "rms_norm":
            first = "attn.v" if norm == "attn_norm" else "mlp.up"
            expected = np.sqrt(np.linalg.norm(tensors[f"{block}.{first}.weight"], axis=0))
            expected /= np.sqrt(np.square(expected).mean())
        np.testing.assert_allclose(factors, expected, rtol=1e-5)
        return factors

    for name, values in tensors.items():
        module = name.rpartition(".")[0]
        block, part = ".".join(module.split(".")[:2]), ".".join(module.split(".")[2:])
        before: NDArray[Any] = tensors[f"{module}.weight"]
        if part in READS:
            before = before / of_norm(block, READS[part])
            values = before if values.ndim == 2 else values
        factors = balance(np.asarray(found[f"{module}.weight"]), before, module)
        if part in READS.values():
            wanted: NDArray[Any] = values * of_norm(block, part)
            np.testing.assert_allclose(np.asarray(found[name]), wanted, rtol=1e-6, err_msg=name)
        elif values.ndim == 1 and module.endswith(FEEDING):
            np.testing.assert_allclose(np.asarray(found[name]), values * factors[:, 0], rtol=0.05, err_msg=name)
        elif values.ndim == 1 or name == "pos.weight":
            np.testing.assert_array_equal(np.asarray(found[name]), values, err_msg=name)
        else:  # a scale is a 127th of the largest rotated value, and rotation keeps lengths
            error = np.sqrt(np.square(np.asarray(found[name]) / factors - values).mean())
            assert error < 0.02, name


def safetensors(folder: Path) -> dict[str, NDArray[Any]]:
    """The file's tensors; bfloat16 as uint16, by reading the header."""
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    types = {"I8": np.int8, "BF16": np.uint16, "F32": np.float32}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def test_it_loads_in_another_format(config: ModelConfig, tmp_path: Path) -> None:
    folder = saved(random(config), config, "int8", tmp_path / "out")
    model = Model.load(folder, weights="float32", threads=1)
    assert model.weights == "float32"
    tensors = {name: np.asarray(tensor) for name, tensor in checkpoint.read(folder)[1].items()}
    expected = Model.from_tensors(config, tensors, weights="float32", threads=1)
    np.testing.assert_array_equal(model.logits([1, 2, 3]), expected.logits([1, 2, 3]))
    exact, rounded = expected.logits([1, 2, 3]), Model.load(folder, threads=1).logits([1, 2, 3])
    assert 0 < np.square(rounded - exact).mean() < 0.01 * np.square(exact).mean()  # int8 rounds activations, too


@pytest.mark.parametrize("weights", ["int8", "bfloat16", "float32"])
def test_sinusoidal_positions_are_kept_as_the_table_they_are(weights: Any, tmp_path: Path) -> None:
    config, ids = CONFIGS["sinusoidal"], [1, 2, 3, 4]
    tensors = random(config)
    folder = saved(tensors, config, weights, tmp_path / "out")
    table = config.sinusoids().astype(np.float32)
    np.testing.assert_array_equal(safetensors(folder)["pos.weight"], table.ravel())
    model = Model.load(folder, threads=1)
    assert model.config == config
    learned = Model.from_tensors(CONFIGS["gpt2"], tensors | {"pos.weight": table}, weights=weights, threads=1)
    np.testing.assert_array_equal(model.logits(ids), learned.logits(ids))
    with pytest.raises(ValueError, match=r"pos\.weight"):
        Model.from_tensors(config, tensors | {"pos.weight": table}, threads=1)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"n_ctx": 6', f'"n_ctx": {2**23}'))
    with pytest.raises(CheckpointError, match="too small"):
        Model.load(folder)


def test_a_damaged_scale_is_refused(tmp_path: Path) -> None:
    folder = saved(random(CONFIGS["gpt2"]), CONFIGS["gpt2"], "int8", tmp_path / "out")
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    at = 8 + length + json.loads(data[8 : 8 + length])["blocks.1.attn.qkv.weight.scales"]["data_offsets"][0]
    data[at : at + 2] = b"\xc0\x7f"  # NaN
    path.write_bytes(data)
    _, tensors, _ = checkpoint.read(folder)
    np.asarray(tensors["blocks.1.attn.out.weight"])
    with pytest.raises(CheckpointError, match=r"tensor 'blocks\.1\.attn\.qkv\.weight': a scale is negative"):
        np.asarray(tensors["blocks.1.attn.q.weight"])
