"""GGUF models in several files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import Model, checkpoint
from pygpt.errors import CheckpointError

gguf = pytest.importorskip("gguf")


@pytest.fixture
def split(writer: Any, tmp_path: Path, llama: Any) -> Callable[..., list[Path]]:
    """Writes the fixture's Llama in parts, as gguf-split does; `changes` are those of a part's own metadata."""
    arrays = writer.llama_tensors(llama.tensors, 4, 2)
    metadata = writer.llama_metadata(llama.config)

    def write(n: int, changes: dict[int, dict[str, Any]] | None = None, stem: str = "m") -> list[Path]:
        paths = []
        for i in range(n):
            own = {"split.no": i, "split.count": n, "split.tensors.count": len(arrays)} | (changes or {}).get(i, {})
            tensors = dict(list(arrays.items())[i::n])
            path = tmp_path / "parts" / f"{stem}-{i + 1:05}-of-{n:05}.gguf"
            path.parent.mkdir(exist_ok=True)
            paths.append(writer.write(path, "llama", (metadata if i == 0 else {}) | own, tensors, {}))
        return paths

    return write


def test_any_part_and_the_folder_give_the_whole(split: Any, writer: Any, tmp_path: Path, llama: Any) -> None:
    config, tensors, _ = checkpoint.read(writer.write_llama(tmp_path / "whole.gguf", llama))
    parts = split(3)
    for path in (*parts, parts[0].parent):
        got_config, got, _ = checkpoint.read(path)
        assert got_config == config
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(tensor), err_msg=name)
    whole = Model.load(tmp_path / "whole.gguf", threads=1)
    np.testing.assert_array_equal(Model.load(parts[1], threads=1).logits([1, 2]), whole.logits([1, 2]))


def test_what_the_package_splits(tmp_path: Path, writer: Any, llama: Any) -> None:
    """The package gguf's own way of cutting a model."""
    arrays = writer.llama_tensors(llama.tensors, 4, 2)
    out = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=8)
    for key, value in writer.llama_metadata(llama.config).items():
        (out.add_float32 if isinstance(value, float) else out.add_uint32)(key, value)
    for name, array in arrays.items():
        out.add_tensor(name, array)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == -(-len(arrays) // 8)
    assert len(checkpoint.read(parts[-1])[1]) == len(arrays)


def test_missing_parts(split: Any) -> None:
    parts = split(4)
    parts[1].unlink()
    parts[3].unlink()
    for path in (parts[0], parts[2], parts[0].parent):
        with pytest.raises(CheckpointError, match=r"lacks .* parts .* m-00002-of-00004.gguf, m-00004-of-00004.gguf$"):
            checkpoint.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({1: {"split.no": 0}}, r"00002.gguf: split.no is 0, but its name says 1"),
        ({1: {"split.count": 3}}, r"00002.gguf: split.count is 3, but its name says 2"),
        ({0: {"split.tensors.count": 5}}, r"split.tensors.count is 5, but there are 20"),
        ({0: {"split.count": 9}}, r"00001-of-00002.gguf: split.count is 9, so this is one part of a model"),
        ({1: {"llama.block_count": 7}}, r"llama.block_count is not as in m-00001-of-00002.gguf: parts of different"),
        ({1: {"general.name": "x"}}, r"general.name is not as in m-00001-of-00002.gguf"),
    ],
)
def test_parts_that_do_not_fit(split: Any, changes: dict[int, dict[str, Any]], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(split(2, changes)[0])


def test_a_part_under_another_name(split: Any, tmp_path: Path) -> None:
    path = split(2)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(CheckpointError, match=r"must be called NAME-00001-of-00002.gguf, with its own numbers"):
        checkpoint.read(path)


def test_a_tensor_in_two_parts(split: Any) -> None:
    first, second = split(2)
    bytes_of_the_first = first.read_bytes()
    shutil.copy(first, second)
    at = bytes_of_the_first.index(b"split.no") + len(b"split.no") + 4
    second.write_bytes(bytes_of_the_first[:at] + (1).to_bytes(4, "little") + bytes_of_the_first[at + 4 :])
    with pytest.raises(CheckpointError, match=r"tensor 'token_embd.weight' is also in m-00001-of-00002.gguf"):
        checkpoint.read(first)


def test_parts_of_two_models(split: Any) -> None:
    """A folder with two is ambiguous; a part's path is not."""
    folder = split(2)[0].parent
    path = split(2, stem="n")[1]
    with pytest.raises(CheckpointError, match=r"holds several files of a model \(m-00001-of-00002.gguf, "):
        checkpoint.read(folder)
    assert checkpoint.read(path)[0].n_layer == 2


def test_one_part_of_one(split: Any) -> None:
    assert checkpoint.read(split(1)[0])[0].n_layer == 2
