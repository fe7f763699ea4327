"""A GGUF file of each family that llama.cpp converts holds the same model as the Hugging Face folder.

The files are made from the goldens, whose expected logits the folders are held to, by what llama.cpp's
convert_hf_to_gguf.py does for each architecture: its metadata, the package's table of names, and the order of rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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


def bloom(c: Settings) -> Settings:
    n_embd = c.get("hidden_size", c.get("n_embed"))
    n_head = c.get("n_head", c.get("num_attention_heads"))
    return {
        "context_length": c.get("seq_length", n_embd), "embedding_length": n_embd, "feed_forward_length": 4 * n_embd,
        "block_count": c["n_layer"], "attention.head_count": n_head, "attention.head_count_kv": n_head,
        "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
    }  # fmt: skip


def mpt(c: Settings) -> Settings:
    return {
        "context_length": c["max_seq_len"], "embedding_length": c["d_model"], "block_count": c["n_layers"],
        "feed_forward_length": 4 * c["d_model"], "attention.head_count": c["n_heads"],
        "attention.layer_norm_epsilon": 1e-5,
        "attention.max_alibi_bias": float(c["attn_config"]["alibi_bias_max"]),
    }  # fmt: skip


def starcoder(c: Settings) -> Settings:
    return {
        "context_length": c["n_positions"], "embedding_length": c["n_embd"], "feed_forward_length": 4 * c["n_embd"],
        "block_count": c["n_layer"], "attention.head_count": c["n_head"], "attention.head_count_kv": 1,
        "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
    }  # fmt: skip


def gpt2(c: Settings) -> Settings:
    return {
        "block_count": c["n_layer"], "context_length": c["n_positions"], "embedding_length": c["n_embd"],
        "feed_forward_length": 4 * c["n_embd"], "attention.head_count": c["n_head"],
        "attention.layer_norm_epsilon": c["layer_norm_epsilon"],
    }  # fmt: skip


class Converter(NamedTuple):
    """What convert_hf_to_gguf.py does for one architecture."""

    architecture: str
    metadata: Callable[[Settings], Settings]
    tensor: Callable[[str, Array, Settings], Array] = lambda name, array, c: array


def heads(c: Settings) -> int:
    return int(c.get("n_head", c.get("num_attention_heads")))


def transposed(name: str, array: Array, c: Settings) -> Array:
    return array.T if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")) else array


def head_by_head(name: str, array: Array, c: Settings) -> Array:
    return sections(array, heads(c), 1) if "query_key_value" in name else array


CONVERTERS = {
    "bloom": Converter("bloom", bloom, head_by_head),
    "bloom-bare-6-heads": Converter("bloom", bloom, head_by_head),
    "mpt": Converter("mpt", mpt),
    "mpt-6-heads-untied": Converter("mpt", mpt),
    "gpt_bigcode": Converter("starcoder", starcoder),
    "gpt2-head20": Converter("gpt2", gpt2, transposed),
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
        if converter.architecture == "bloom":
            name = name.removeprefix("transformer.")
        new_name = renamed(name, converter.architecture, config.n_layer)
        arrays[new_name] = np.ascontiguousarray(converter.tensor(name, array, settings))
    path = writer.write(tmp_path / "x.gguf", converter.architecture, metadata, arrays, {})
    found, same, _ = checkpoint.read(path)
    assert found == config
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(same[name]), np.asarray(tensor), err_msg=name)
