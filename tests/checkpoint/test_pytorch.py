"""Files of torch.save (tests/make_pickles.py): the same tensors in each form, and the logits of the originals."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pygpt import Model, checkpoint, reference
from pygpt.checkpoint.pytorch import read_pytorch, tensors_of
from pygpt.checkpoint.tensor import Stored
from pygpt.errors import CheckpointError, ConfigError

DATA = Path(__file__).parents[1] / "data" / "pickles"


def logits(path: Path, ids: list[int]) -> np.ndarray:
    config, tensors, _ = checkpoint.read(path)
    return reference.forward(config, tensors, ids, dtype=np.float64)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gpt2-zip", "gpt2-zip"),
        ("gpt2-zip/pytorch_model.bin", "gpt2-zip"),
        ("gpt2-legacy", "gpt2-zip"),
        ("gpt2-sharded", "gpt2-zip"),
        ("gpt2-sharded/pytorch_model.bin.index.json", "gpt2-zip"),
        ("nanogpt", "nanogpt"),
        ("nanogpt/ckpt.pt", "nanogpt"),
        ("mingpt", "mingpt"),
        ("mingpt/model.pt", "mingpt"),
    ],
)
def test_the_originals_logits(path: str, expected: str) -> None:
    """In float64 on both sides: sums of up to 48 terms in 2 layers, far from rounding's 1e-16."""
    with np.load(DATA / expected / "expected.npz") as file:
        ids, wanted = file["ids"].tolist(), file["logits"]
    assert np.abs(logits(DATA / path, ids) - wanted).max() < 1e-12 * np.abs(wanted).max()


def test_a_model_runs() -> None:
    ids = [3, 16, 0]
    model = Model.load(DATA / "nanogpt" / "ckpt.pt", weights="float32", threads=1)
    assert model.config.activation == "gelu"
    assert not model.config.mlp_bias
    assert np.abs(model.logits(ids) - logits(DATA / "nanogpt", ids)).max() < 1e-4


def test_a_fine_tuned_nanogpt_can_be_written_and_read(tmp_path: Path) -> None:
    config, tensors, _ = checkpoint.read(DATA / "nanogpt")
    checkpoint.write(tmp_path / "out", config, {name: np.asarray(tensor) for name, tensor in tensors.items()})
    assert (logits(tmp_path / "out", [3, 16, 0]) == logits(DATA / "nanogpt", [3, 16, 0])).all()


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt", "protocol4.pt"])
def test_every_type_and_layout(name: str) -> None:
    path = DATA / "views" / name
    tensors = tensors_of(path, read_pytorch(path))
    with np.load(DATA / "views" / "expected.npz") as file:
        expected = dict(file)
    assert tensors.keys() == expected.keys()
    for key, tensor in tensors.items():
        assert tensor.shape == expected[key].shape
        if tensor.kind is None:
            assert tensor.dtype in ("F64", "I64", "BOOL")
            continue
        values = tensor.read()
        if tensor.kind == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        assert (values == expected[key]).all(), key
    assert {k: t.dtype for k, t in tensors.items() if k in ("half", "bfloat16", "long", "bool")} == {
        "half": "F16", "bfloat16": "BF16", "long": "I64", "bool": "BOOL",
    }  # fmt: skip


def test_a_table_keeps_what_is_no_tensor() -> None:
    table = read_pytorch(DATA / "nanogpt" / "ckpt.pt")
    assert table["iter_num"] == 5
    assert table["config"] == {"out_dir": "out", "compile": True, "learning_rate": 1e-3}
    assert isinstance(table["best_val_loss"], Stored)
    with pytest.raises(CheckpointError, match="'model' is a dict, but a table of tensors was expected"):
        tensors_of(DATA, table)


def test_one_tensor_under_two_names_is_read_once() -> None:
    path = DATA / "gpt2-zip" / "pytorch_model.bin"
    tensors = tensors_of(path, read_pytorch(path))
    assert tensors["lm_head.weight"].read is tensors["transformer.wte.weight"].read


# --- what is missing or refused ------------------------------------------------------------------------------------


def test_mingpt_needs_the_number_of_heads(tmp_path: Path) -> None:
    shutil.copy(DATA / "mingpt" / "model.pt", tmp_path)
    with pytest.raises(ConfigError, match=r'model\.pt: the tensors do not say how many heads .*"n_head": 6'):
        checkpoint.read(tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"n_head": 5}}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"n_embd is 12, but must be a multiple of n_head \(5\)"):
        checkpoint.read(tmp_path)
    (tmp_path / "config.json").write_text('{"n_head": 3}', encoding="utf-8")
    assert (logits(tmp_path, [1, 2]) == logits(DATA / "mingpt", [1, 2])).all()


def test_a_table_of_no_known_program(tmp_path: Path) -> None:
    shutil.copy(DATA / "views" / "zip.pt", tmp_path)
    with pytest.raises(CheckpointError, match=r"holds \['whole', 'transposed'.* does not say what model that is"):
        checkpoint.read(tmp_path / "zip.pt")


def test_a_family_that_needs_config_json(tmp_path: Path) -> None:
    for file in (DATA / "gpt2-zip").iterdir():
        shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 3}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"lacks the tensors 'h\.2"):
        checkpoint.read(tmp_path)


def test_a_folder_with_several(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        shutil.copy(DATA / "nanogpt" / "ckpt.pt", tmp_path / name)
    with pytest.raises(CheckpointError, match=r"several files of a model \(a\.pt, b\.pt\)"):
        checkpoint.read(tmp_path)


def rewritten(tmp_path: Path, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """nanoGPT's file with other members."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(DATA / "nanogpt" / "ckpt.pt") as old, zipfile.ZipFile(path, "w", compression) as new:
        for member in old.namelist():
            new.writestr(member, changes.get(member.partition("/")[2], old.read(member)))
    return path


def test_damaged_archives(tmp_path: Path) -> None:
    assert read_pytorch(rewritten(tmp_path, {})).keys() == read_pytorch(DATA / "nanogpt" / "ckpt.pt").keys()
    for changes, said in (
        ({"data/0": b"1234"}, r"storage '0' is not there with 204 values of torch\.FloatStorage"),
        ({"byteorder": b"big"}, "its byte order must be little"),
        ({"data.pkl": b"\x80\x02}."}, r"holds \[\], and"),
        ({"data.pkl": b"\x80\x02]."}, "holds a list, not a table"),
    ):
        path = rewritten(tmp_path, changes)
        with pytest.raises(CheckpointError, match=said):
            checkpoint.read(path)
    with pytest.raises(CheckpointError, match=r"is compressed, which torch\.save does not do"):
        checkpoint.read(rewritten(tmp_path, {}, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(CheckpointError, match=r"none that torch\.save wrote"):
        checkpoint.read(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["nanogpt/ckpt.pt", "gpt2-legacy/pytorch_model.bin"])
def test_cut_and_spoilt_files(tmp_path: Path, name: str) -> None:
    """Whatever happens to a file: a CheckpointError or a ConfigError, or another value where a number was changed."""
    data = (DATA / name).read_bytes()
    path = tmp_path / "x.pt"
    rng = np.random.default_rng(0)
    if "gpt2" in name:
        shutil.copy(DATA / "gpt2-zip" / "config.json", tmp_path)
    cases = [data[: len(data) * i // 40] for i in range(40)]
    for _ in range(150):
        spoilt = bytearray(data)
        for at in rng.integers(0, min(len(data), 6000), 3):
            spoilt[at] = rng.integers(256)
        cases.append(bytes(spoilt))
    for case in cases:
        path.write_bytes(case)
        try:
            _, tensors, _ = checkpoint.read(path)
            for tensor in tensors.values():
                tensor.raw()
        except (CheckpointError, ConfigError) as error:
            assert str(path) in str(error) or "config.json" in str(error)  # noqa: PT017


def test_a_member_beyond_the_file(tmp_path: Path) -> None:
    path = rewritten(tmp_path, {})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")  # the directory's first entry
    data[at + 42 : at + 46] = struct.pack("<I", 0x7FFFFFFF)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is not in the file|not a whole zip archive"):
        checkpoint.read(path)
