"""Checkpoints that pygpt saves: equal bits when loaded, all or nothing on the disk, refused when spoilt."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

import pygpt
from pygpt import Model, _core
from pygpt.checkpoint import saved as saved_module
from pygpt.errors import CheckpointError, ConfigError

FORMATS = ("int8", "bfloat16", "float32")
Array = NDArray[Any]


def same_logits(a: Model, b: Model, ids: list[int]) -> None:
    expected = a.logits(ids)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(b.logits(ids), expected)


@pytest.fixture
def folder(gpt2: Any, tmp_path: Path) -> Path:
    """A saved int8 model of sizes that fill neither panels nor groups."""
    Model.load(gpt2.write(tmp_path / "source"), threads=1).save(tmp_path / "saved")
    return tmp_path / "saved"


# --- what is saved is what is loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_logits_are_equal(request: pytest.FixtureRequest, tmp_path: Path, family: str, weights: Any) -> None:
    source = request.getfixturevalue(family).write(tmp_path / "source")
    model = Model.load(source, weights=weights, threads=1)
    model.save(tmp_path / "saved")
    for source in (tmp_path / "saved", tmp_path / "saved" / "model.safetensors"):
        for chosen in (None, weights):
            again = Model.load(source, weights=chosen, threads=2)
            assert (again.weights, again.kv, again.config) == (weights, model.kv, model.config)
            assert again.weight_bytes == model.weight_bytes
            same_logits(model, again, [1, 2, 3, 4])
    again.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


@pytest.mark.parametrize("weights", FORMATS)
def test_the_built_in_model_round_trips(tmp_path: Path, weights: Any) -> None:
    """Whole groups of 128, and a tokenizer."""
    model = Model.load("tiny", weights=weights, threads=2)
    model.save(tmp_path / "out")
    again = Model.load(tmp_path / "out", threads=1)
    text = "Once upon a time there was a fox <|endoftext|> né à 3 o'clock"
    for special in (False, True):
        ids = model.tokenizer.encode(text, allow_special=special)
        assert again.tokenizer.encode(text, allow_special=special) == ids
    assert again.tokenizer.decode(ids) == model.tokenizer.decode(ids)
    assert (again.tokenizer.bos_id, again.tokenizer.eos_id) == (model.tokenizer.bos_id, model.tokenizer.eos_id)
    same_logits(model, again, ids)
    assert again.generate(text, max_tokens=8, seed=1) == model.generate(text, max_tokens=8, seed=1)


def test_a_gguf_file_round_trips_with_its_tokenizer(llama: Any, writer: Any, tmp_path: Path) -> None:
    letters = [*"abcdefghi", "ab", "<|endoftext|>"]
    added = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": letters,
        "tokenizer.ggml.token_type": [1] * 10 + [3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 10,
    }
    model = Model.load(writer.write_llama(tmp_path / "m.gguf", llama, added), threads=1)
    model.save(tmp_path / "out")
    again = Model.load(tmp_path / "out", threads=1)
    for text in ("abcab", "a<|endoftext|>b"):
        ids = model.tokenizer.encode(text, allow_special=True)
        assert again.tokenizer.encode(text, allow_special=True) == ids
    assert again.tokenizer.eos_id == model.tokenizer.eos_id == 10
    same_logits(model, again, [0, 1, 10])


def test_a_tokenizer_that_pygpt_cannot_read_is_left_out(llama: Any, writer: Any, tmp_path: Path) -> None:
    tokens = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "b"]}
    Model.load(writer.write_llama(tmp_path / "m.gguf", llama, tokens), threads=1).save(tmp_path / "out")
    assert not Model.load(tmp_path / "out", threads=1).has_tokenizer


def test_a_tokenizers_files_are_copied(gpt2_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(gpt2_folder, tmp_path / "source")
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "chat_template": "x"}')
    Model.load(source, threads=1).save(tmp_path / "out")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


def test_the_file_is_plain_safetensors_with_aligned_data(folder: Path) -> None:
    path = folder / "model.safetensors"
    with safe_open(path, "np") as file:
        names = set(file.keys())
        data = file.get_tensor("blocks.0.attn.qkv.weight")
    assert data.shape == (2, 16, 16, 4)
    assert data.dtype == np.int8
    assert {"embed.weight.scales", "pos.weight", "norm.bias"} < names
    opened = saved_module.open_file(path)
    assert opened.data % 64 == 0
    assert all(opened.entries[n].begin % 64 == 0 for n, e in opened.entries.items() if (e.end - e.begin) % 64 == 0)
    wanted = {"embed.weight": np.dtype("i1"), "embed.weight.scales": np.dtype("<u2")}
    assert all(a.ctypes.data % 64 == 0 for a in opened.arrays(wanted).values())


def test_data_that_is_not_aligned_is_read_all_the_same(folder: Path) -> None:
    expected, path = Model.load(folder, threads=1), folder / "model.safetensors"
    header, data = _parts(path)
    text = json.dumps(header).encode()
    text += b" " * (1 - (8 + len(text)) % 2)  # odd
    path.with_name("new").write_bytes(len(text).to_bytes(8, "little") + text + data)
    path.with_name("new").replace(path)
    same_logits(expected, Model.load(folder, threads=1), [1, 2, 3])


@pytest.mark.parametrize(
    ("version", "new"), [(1, ["post_norm", "sinusoidal_positions"]), (2, ["sinusoidal_positions"]), (3, [])]
)
def test_older_versions_had_one_field_for_all_layers(folder: Path, version: int, new: list[str]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    assert values["version"] == 4
    config = values["config"]
    layers = config.pop("layers")
    old = {"n_layer": len(layers), "attn_scale": layers[0]["attn_scale"], "rope": layers[0]["rope"]}
    config |= old | {"attn_scale_by_inverse_layer": True, "post_norm": config.pop("norm_placement") == "after_sum"}
    for name in new:
        del config[name]
    path.write_text(json.dumps(values | {"version": version}))
    read = Model.load(folder, threads=1).config
    assert [layer.attn_scale for layer in read.layers] == [old["attn_scale"] / (i + 1) for i in range(len(layers))]
    assert {layer.rope for layer in read.layers} == {None}
    assert (read.norm_placement, read.sinusoidal_positions) == ("before_branch", False)


def test_the_model_outlives_its_files(folder: Path) -> None:
    model = Model.load(folder, threads=1)
    expected = Model.load(folder, threads=1).logits([1, 2, 3])
    shutil.rmtree(folder)
    np.testing.assert_array_equal(model.logits([1, 2, 3]), expected)


def test_the_least_int8_is_no_special_case(folder: Path) -> None:
    """Quantising gives -127 at least, but a file may hold -128: products of it stay exact on every instruction set."""
    header, data = _parts(folder / "model.safetensors")
    spoilt = bytearray(data)
    for entry in header.values():
        if entry.get("dtype") == "I8":
            begin, end = entry["data_offsets"]
            spoilt[begin:end] = b"\x80" * (end - begin)
    _write(folder / "model.safetensors", header, bytes(spoilt))
    expected = Model.load(folder, threads=1, isa="scalar")
    for isa in _core.isa_names():
        same_logits(expected, Model.load(folder, threads=1, isa=isa), [1, 2, 3, 4])


# --- all or nothing ------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_filled_and_another_is_left_alone(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    model.save(out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(CheckpointError, match=r"out: not empty"):
        model.save(out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"file: is there already"):
        model.save(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"no/out: the folder .*no does not exist"):
        model.save(tmp_path / "no" / "out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("step", "raised"), [("write_file", OSError(28, "No space left")), ("sync_all", KeyboardInterrupt)]
)
def test_a_save_that_fails_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, raised: Any
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(saved_module, step, fail)
    with pytest.raises(CheckpointError if step == "write_file" else KeyboardInterrupt):
        model.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_save_leaves_no_checkpoint(model: Model, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:  # dies when the files are written, before they get their name
        saved_module.sync_all = lambda _: os._exit(9)  # type: ignore[assignment]
        model.save(tmp_path / "out")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not (tmp_path / "out").exists()
    model.save(tmp_path / "out")
    assert Model.load(tmp_path / "out", threads=1).weights == model.weights


# --- bad input -----------------------------------------------------------------------------------------------------


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]


def _write(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def _replaced(folder: Path, name: str, change: Callable[[Array], Array] | None, dtype: str | None = None) -> None:
    """Change one tensor of the file; None: take it out. An unknown name is a new tensor."""
    header, data = _parts(folder / "model.safetensors")
    numpy = {"I8": np.int8, "BF16": np.uint16, "F32": np.float32}
    arrays = {
        n: (e["dtype"], np.frombuffer(data[slice(*e["data_offsets"])], numpy[e["dtype"]]).reshape(e["shape"]))
        for n, e in header.items()
        if n != "__metadata__"
    }
    if change is None:
        del arrays[name]
    else:
        kind, old = arrays.get(name, ("F32", np.zeros(0, np.float32)))
        arrays[name] = (dtype or kind, change(old.copy()))
    new, body = {}, b""
    for n, (kind, array) in arrays.items():
        new[n] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()
    _write(folder / "model.safetensors", new, body)


def _set(values: Array, value: int) -> Array:
    values.flat[-1] = value
    return values


SCALES = "blocks.1.mlp.down.weight.scales"


@pytest.mark.parametrize(
    ("name", "change", "dtype", "message"),
    [
        (SCALES, lambda a: _set(a, 0x7FC0), None, f"{SCALES}.*negative or not finite"),
        (SCALES, lambda a: _set(a, 0x7F80), None, f"{SCALES}.*negative or not finite"),
        (SCALES, lambda a: _set(a, 0xBF80), None, f"{SCALES}.*negative or not finite"),
        (SCALES, lambda a: a[..., :8], None, rf"{SCALES}.*\[1, 1, 8\].*\[1, 1, 16\]"),
        (SCALES, lambda a: np.repeat(a, 2, axis=1), None, rf"{SCALES}.*\[1, 2, 16\].*\[1, 1, 16\]"),
        (SCALES, lambda a: a.astype(np.float32), "F32", f"{SCALES}.*F32.*BF16"),
        (SCALES, None, None, f"lacks the tensor '{SCALES}'"),
        ("embed.weight", lambda a: a.astype(np.float32), "F32", "embed.weight.*F32.*I8"),
        ("embed.weight", lambda a: a.reshape(1, -1, 4, 16), None, "embed.weight.*shape"),
        ("norm.weight", lambda a: a[:-1], None, "norm.weight.*shape"),
        ("extra", lambda a: a, None, "holds the tensor 'extra'"),
    ],
)
def test_spoilt_tensors_are_named(folder: Path, name: str, change: Any, dtype: str | None, message: str) -> None:
    _replaced(folder, name, change, dtype)
    with pytest.raises(CheckpointError, match=message) as caught:
        Model.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("int8_group", 64, "int8_group is 64"),
        ("version", 5, "version is 5"),
        ("version", True, "version is True"),
        ("weights", "int4", "weights is 'int4'"),
        ("weights", "float32", "I8.*F32"),
        ("config", None, "config is None"),
        ("config.n_embd", 200, "too small|shape"),
        ("config.layers", [{"attn_scale": 0.25}], "blocks.1"),
        ("config.layers", [{"attn_scale": 0.25}] * 2000, "too small"),
        ("config.layers", [], "layers must be at least 1"),
        ("config.layers", 2, "config.layers is 2"),
        ("config.layers", [{"attn_scale": 0.25}, 3], r"config.layers\[1\] is 3"),
        ("config.layers", [{"attn_scale": 0.25, "surprise": 1}], r"config.layers\[0\] must have .*: check surprise"),
        ("config.n_vocab", 40, "embed.weight"),
        ("config.n_ctx", 2**30, "config.json: n_ctx must be at least 1 and at most 16777216"),
        ("config.n_ctx", 2**23, "too small"),
        ("config.layers", [{"attn_scale": "1"}], r"config.layers\[0\].attn_scale is '1'"),
        ("config.tied_head", 1, "config.tied_head is 1"),
        ("config.tied_head", False, "head.weight"),
        ("config.norm", "batch_norm", "batch_norm"),
        ("config.sinusoidal_positions", True, "must not both be true"),
        ("config.norm_eps", float("nan"), "norm_eps"),
        ("config.eos_ids", [1.5], "eos_ids"),
        ("config.layers", [{"attn_scale": 1, "rope": {"theta": 1.0}}], r"layers\[0\].rope must have .* check dim"),
        ("config.surprise", 1, "surprise"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder: Path, key: str, value: object, message: str) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    table = values["config"] if "." in key else values
    table[key.split(".")[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
        Model.load(folder)
    assert str(folder) in str(caught.value)


def test_every_truncation_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            Model.load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Model.load(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_weights_that_int8_cannot_hold_are_named_with_their_file(gpt2: Any, tmp_path: Path, bad: float) -> None:
    gpt2.tensors["h.1.mlp.c_fc.weight"][:, 2] = bad
    source = gpt2.write(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'h\.1\.mlp\.c_fc\.weight': .*int8"):
        pygpt.Model.load(source, weights="int8")
