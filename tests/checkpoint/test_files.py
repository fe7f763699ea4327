"""What real files look like: tied heads, names without an ending, links, byte order marks; and what looks like one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import checkpoint
from pygpt.errors import CheckpointError, ConfigError

# A tied head may stand in the file under either name, or under both


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_tied_matrix_under_the_heads_name(tmp_path: Path, gpt2: Any, prefix: str) -> None:
    _, expected, _ = checkpoint.read(gpt2.write(tmp_path / "a"))
    tensors = {prefix + name: array for name, array in gpt2.tensors.items()}
    tensors["lm_head.weight"] = tensors.pop(f"{prefix}wte.weight")
    config, got, _ = checkpoint.read(gpt2.write(tmp_path / "b", tensors))
    assert list(got) == list(config.tensor_shapes())
    np.testing.assert_array_equal(np.asarray(got["embed.weight"]), np.asarray(expected["embed.weight"]))


def test_a_copy_of_a_tied_matrix(tmp_path: Path, gpt2: Any) -> None:
    wte = gpt2.tensors["wte.weight"]
    checkpoint.read(gpt2.write(tmp_path / "a", gpt2.tensors | {"lm_head.weight": wte}))
    for other in (wte + 1, wte.astype(np.float16), wte[:-1]):
        with pytest.raises(CheckpointError, match=r"'lm_head.weight' differs from 'wte.weight', .* tie_word_embedd"):
            checkpoint.read(gpt2.write(tmp_path / "b", gpt2.tensors | {"lm_head.weight": other}))[1][
                "embed.weight"
            ].raw()


def test_an_index_may_name_a_tied_head_that_no_shard_holds(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    names = [*gpt2.tensors, "lm_head.weight"]
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "one.safetensors")}), encoding="utf-8")
    checkpoint.read(folder)
    gpt2.config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(gpt2.config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"puts the tensor 'lm_head.weight' in 'one.safetensors', which does not"):
        checkpoint.read(folder)


# What a file is, is told by its first bytes


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "0123456789abcdef", "model.gguf.safetensors", "x.part"])
def test_safetensors_under_any_name(tmp_path: Path, gpt2: Any, name: str) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    checkpoint.read(folder / name)


def test_links_like_those_of_the_hubs_cache(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path / "blobs")
    links = tmp_path / "snapshots"
    links.mkdir()
    for n, file in enumerate(folder.iterdir()):
        blob = file.rename(folder / f"{n}")
        (links / file.name).symlink_to(blob)
    checkpoint.read(links)
    checkpoint.read(links / "model.safetensors")


def test_folders_and_other_things_in_the_place_of_files(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path / "a")
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        checkpoint.read(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.read(folder)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.read(folder / "model.safetensors")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        checkpoint.read(tmp_path / "pipe.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "x"])
def test_an_empty_file(tmp_path: Path, gpt2: Any, name: str) -> None:
    folder = gpt2.write(tmp_path)
    (folder / name).write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=rf"{name}: (0 bytes are too few|.*, 0 bytes: header too small|.* begins with b'')"
    ):
        checkpoint.read(folder / name)


def test_an_empty_shard(tmp_path: Path, gpt2: Any) -> None:
    """One without a tensor is whole; one without a byte is not."""
    folder = gpt2.write(tmp_path)
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    weight_map = dict.fromkeys(gpt2.tensors, "one.safetensors")
    index = {"weight_map": weight_map | {"lm_head.weight": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "two.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    checkpoint.read(folder)
    (folder / "two.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"two\.safetensors: not a whole safetensors file, 0 bytes"):
        checkpoint.read(folder)


def test_a_byte_order_mark_in_config_json(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path)
    text = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + text)
    checkpoint.read(folder)
    (folder / "config.json").write_bytes(text.replace(b"}", b', "n_head": 3}'))
    with pytest.raises(ConfigError, match=r"config\.json: not valid JSON: the key 'n_head' occurs twice"):
        checkpoint.read(folder)


@pytest.mark.parametrize("name", ["MODEL.GGUF", "sha256-0123abcd", "model.safetensors"])
def test_gguf_under_any_name(writer: Any, tmp_path: Path, llama: Any, name: str) -> None:
    path = writer.write_llama(tmp_path / name, llama)
    expected = checkpoint.read(path)[0]
    if name == "MODEL.GGUF":
        assert checkpoint.read(tmp_path)[0] == expected


def test_an_adapter_is_not_passed_over(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: an adapter changes this model"):
        checkpoint.read(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"no checkpoint here: .*; this is an adapter: merge it"):
        checkpoint.read(folder)
