"""Experts in MXFP4: 4 bits from the file to the product, in whatever format the other weights are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pygpt import Model, _core, checkpoint, reference
from pygpt.checkpoint.safetensors import open_file, read_file
from pygpt.checkpoint.tensor import numbers
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError
from pygpt.inspection import inspect

DATA = Path(__file__).parents[1] / "data"
FOLDER, GGUF = DATA / "parity" / "gpt-oss-mxfp4", DATA / "gguf" / "gpt-oss.gpt-oss-mxfp4.gguf"
FORMATS = ("float32", "bfloat16", "int8")
IDS = np.random.default_rng(2).integers(0, 61, 32)
EXPERT_BYTES = 2 * 5 * (2 * 64 * 32 + 32 * 64) * 17 // 32  # layers, experts, gate and up and down, bits


@pytest.fixture(params=FORMATS)
def weights(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def dequantised() -> tuple[ModelConfig, dict[str, NDArray[np.float32]]]:
    config, tensors, _ = checkpoint.read(FOLDER)
    return config, {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}


def test_blocks_stay_in_four_bits(weights: str) -> None:
    config, tensors, _ = checkpoint.read(FOLDER)
    experts = [name for name in tensors if ".experts." in name and name.endswith("weight")]
    assert {tensors[name].dtype for name in experts} == {"MXFP4 pairs"}
    engine = Model.load(FOLDER, weights=weights)._engine  # type: ignore[arg-type]
    kept = {name: array for name, (dtype, array) in engine.tensors().items() if dtype == "uint8"}
    assert len(kept) == 2 * 5 * 2  # gate and up lie in one
    assert sum(array.nbytes for array in kept.values()) == EXPERT_BYTES
    assert engine.weight_bytes == sum(array.nbytes for _, array in engine.tensors().values())
    assert config.layers[0].experts is not None


def test_products_are_those_of_the_values_in_float32() -> None:
    """And so the whole model in float32 is that of its dequantised twin, to the bit, on every instruction set."""
    config, tensors = dequantised()
    expected = Model.from_tensors(config, tensors, weights="float32").logits(IDS)
    for isa in _core.isa_names():
        assert np.array_equal(Model.load(FOLDER, weights="float32", isa=isa).logits(IDS), expected)
    assert np.abs(expected - reference.forward(config, tensors, IDS)).max() < 1e-4


def test_the_numeric_contract(weights: str) -> None:
    """One bit pattern, whatever the instruction set, the threads and the chunks."""
    expected = Model.load(FOLDER, weights=weights, threads=2).logits(IDS)  # type: ignore[arg-type]
    assert np.isfinite(expected).all()
    for isa in _core.isa_names():
        engine = Model.load(FOLDER, weights=weights, threads=1, isa=isa)._engine  # type: ignore[arg-type]
        session = engine.session()
        ids = IDS.astype(np.int32)
        parts = [engine.forward([(session, ids[i : i + 5])], output="all")[0] for i in range(0, 32, 5)]
        assert np.array_equal(np.concatenate(parts), expected)


def test_gguf_holds_the_same_model() -> None:
    config, tensors, _ = checkpoint.read(GGUF)
    assert tensors["blocks.1.mlp.experts.3.up.weight"].dtype == "MXFP4"
    _, same = dequantised()
    for name, tensor in tensors.items():
        if ".experts." in name:
            np.testing.assert_array_equal(np.asarray(tensor), same[name])
    folder, file = (Model.load(path, weights="int8")._engine.tensors() for path in (FOLDER, GGUF))
    for name, (dtype, array) in folder.items():
        if dtype == "uint8":
            np.testing.assert_array_equal(file[name][1], array)
    assert config.n_layer == 2


def test_a_saved_model_keeps_its_blocks(weights: str, tmp_path: Path) -> None:
    model = Model.load(FOLDER, weights=weights)  # type: ignore[arg-type]
    model.save(tmp_path / "saved")
    assert open_file(tmp_path / "saved" / "model.safetensors").entries["blocks.0.mlp.experts.0.up.weight"].dtype == "U8"
    again = Model.load(tmp_path / "saved")
    assert (again.weights, again.weight_bytes) == (weights, model.weight_bytes)
    assert np.array_equal(again.logits(IDS), model.logits(IDS))
    other = Model.load(tmp_path / "saved", weights="bfloat16")  # packed anew, from what was saved
    engine = other._engine
    assert sum(array.nbytes for dtype, array in engine.tensors().values() if dtype == "uint8") == EXPERT_BYTES
    if weights == "float32":
        assert np.array_equal(other.logits(IDS), Model.load(FOLDER, weights="bfloat16").logits(IDS))
    for place in (FOLDER, tmp_path / "saved"):
        found = inspect(place).weight_bytes()
        assert found[weights] == model.weight_bytes


def test_values_of_two_kinds_in_one_matrix_are_refused() -> None:
    config, tensors, _ = checkpoint.read(FOLDER)
    name = "blocks.0.mlp.experts.0.{}.weight"
    gate, up = tensors[name.format("gate")], np.asarray(tensors[name.format("up")])
    given = {name.format("gate"): (gate.raw(), gate.dtype), name.format("up"): (up, "float32")}
    for order in (list(given), list(given)[::-1]):
        builder = _core.EngineBuilder(config, weights="int8", kv="float16", threads=1, isa=None)
        first, second = order
        builder.add(first, *given[first])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"is( not)? in MXFP4, unlike that with which it shares a matrix"):
            builder.add(second, *given[second])  # type: ignore[arg-type]


def test_a_matrix_that_was_added_stays() -> None:
    config, tensors, _ = checkpoint.read(FOLDER)
    name = "blocks.0.mlp.experts.0.down.weight"
    builder = _core.EngineBuilder(config, weights="int8", kv="float16", threads=1, isa=None)
    builder.add(name, tensors[name].raw(), tensors[name].dtype)
    with pytest.raises(ValueError, match=f"'{name}' was added before"):
        builder.packed({name})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("model.layers.0.mlp.experts.down_proj_scales"), "down_proj_blocks' without its scales"),
        (
            lambda t: t.update({"model.layers.0.mlp.experts.down_proj_scales": np.zeros((5, 32, 3), np.uint8)}),
            r"is U8 of shape \[5, 32, 2, 16\] and '.*' U8 of \[5, 32, 3\]",
        ),
        (
            lambda t: t.update({k: v[:4] for k, v in t.items() if "layers.1.mlp.experts.down_proj_" in k}),
            r"has shape \[4, 32, 64\], but the configuration asks for \[5, 32, 64\]",
        ),
        (
            lambda t: t.update({"model.layers.0.mlp.experts.down_proj": np.zeros((5, 64, 32), np.float32)}),
            "holds the tensor 'layers.0.mlp.experts.down_proj', which this architecture does not have",
        ),
    ],
    ids=["no scales", "other scales", "too few experts", "a tensor twice"],
)
def test_damaged_blocks_are_refused(damage, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "damaged"
    shutil.copytree(FOLDER, folder)
    tensors = raw_tensors(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        Model.load(folder)


def raw_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """What the file holds, with bfloat16, which NumPy lacks, as float32."""
    return {
        name: np.ascontiguousarray(stored.read() if stored.kind is None else numbers(stored.read(), stored.kind))
        for name, stored in read_file(path).items()
    }
