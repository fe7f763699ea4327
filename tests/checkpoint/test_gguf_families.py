"""GGUF files that test_gguf_converted.py does not have: Falcon 7B, of which llama.cpp's converter makes none since
its config.json names 71 key/value heads, and an MPT with a head and slopes of its own.

They are put together from goldens by what convert_hf_to_gguf.py does for their architecture: its metadata, the
package's table of names, and the order of rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import checkpoint
from pygpt.checkpoint.safetensors import read_file
from pygpt.checkpoint.tensor import numbers

Array = NDArray[Any]
Settings = dict[str, Any]
GOLDENS = Path(__file__).parents[1] / "data" / "parity"


def sections(fused: Array, n_kv_head: int, n_rep: int) -> Array:
    """The rows of a fused q, k, v, group by group of a key/value head, as all of q, all of k, all of v."""
    groups = fused.reshape(n_kv_head, n_rep + 2, -1, *fused.shape[1:])
    parts = (groups[:, :n_rep], groups[:, n_rep], groups[:, n_rep + 1])
    return np.concatenate([part.reshape(-1, *fused.shape[1:]) for part in parts])


def mpt(c: Settings) -> Settings:
    return {
        "context_length": c["max_seq_len"], "embedding_length": c["d_model"], "block_count": c["n_layers"],
        "feed_forward_length": 4 * c["d_model"], "attention.head_count": c["n_heads"],
        "attention.layer_norm_epsilon": 1e-5,
        "attention.max_alibi_bias": float(c["attn_config"]["alibi_bias_max"]),
    }  # fmt: skip


def falcon(c: Settings) -> Settings:
    return {
        "context_length": 2048, "tensor_data_layout": "jploski", "embedding_length": c["hidden_size"],
        "feed_forward_length": 4 * c["hidden_size"], "block_count": c["num_hidden_layers"],
        "attention.head_count": c["num_attention_heads"], "attention.head_count_kv": kv_heads(c),
        "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
    }  # fmt: skip


def kv_heads(c: Settings) -> int:
    """1 for Falcon 7B, whose config.json names another number on the hub now than when files were made of it."""
    return int(c["num_kv_heads"] if c["new_decoder_architecture"] else 1)


class Converter(NamedTuple):
    """What convert_hf_to_gguf.py does for one architecture."""

    architecture: str
    metadata: Callable[[Settings], Settings]
    tensor: Callable[[str, Array, Settings], Array] = lambda name, array, c: array


def by_groups(name: str, array: Array, c: Settings) -> Array:
    if "query_key_value" not in name:
        return array
    return sections(array, kv_heads(c), c["num_attention_heads"] // kv_heads(c))


CONVERTERS = {
    "falcon-multi-query": Converter("falcon", falcon, by_groups),
    "mpt-6-heads-untied": Converter("mpt", mpt),
}


def renamed(name: str, architecture: str, n_layer: int) -> str:
    """The name in GGUF, by the package's own table."""
    gguf = pytest.importorskip("gguf")
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    found = gguf.get_tensor_name_map(arch, n_layer).get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return str(found)


def stored_arrays(folder: Path) -> dict[str, Array]:
    """The tensors of model.safetensors in float32, under their own names."""
    found = read_file(folder / "model.safetensors").items()
    return {name: numbers(stored.read(), str(stored.kind)).astype(np.float32) for name, stored in found}


@pytest.mark.parametrize("golden", CONVERTERS)
def test_equals_the_folder(golden: str, tmp_path: Path, writer: Any) -> None:
    folder, converter = GOLDENS / golden, CONVERTERS[golden]
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config, tensors, _ = checkpoint.read(folder)
    metadata = {f"{converter.architecture}.{k}": v for k, v in converter.metadata(settings).items()}
    metadata |= {"tokenizer.ggml.bos_token_id": config.bos_id, "tokenizer.ggml.eos_token_id": config.eos_ids[0]}
    arrays = {}
    for name, array in stored_arrays(folder).items():
        new_name = renamed(name, converter.architecture, config.n_layer)
        arrays[new_name] = np.ascontiguousarray(converter.tensor(name, array, settings))
    path = writer.write(tmp_path / "x.gguf", converter.architecture, metadata, arrays, {})
    found, same, _ = checkpoint.read(path)
    assert replace(found, n_ctx=config.n_ctx) == config  # Falcon's is always said to be 2048
    assert checkpoint.family_of(path) == checkpoint.family_of(folder)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(same[name]), np.asarray(tensor), err_msg=name)
