"""A GGUF file of each family that llama.cpp converts holds the same model as the Hugging Face folder.

The files are made from the goldens, whose expected logits the folders are held to, by what llama.cpp's
convert_hf_to_gguf.py does for each architecture: its metadata, the package's table of names, and the order of rows.
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


def gptneox(c: Settings) -> Settings:
    head_dim = c["hidden_size"] // c["num_attention_heads"]
    return {
        "context_length": c["max_position_embeddings"], "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"], "feed_forward_length": c["intermediate_size"],
        "rope.dimension_count": int(share(c) * head_dim), "attention.head_count": c["num_attention_heads"],
        "use_parallel_residual": c.get("use_parallel_residual", True),
        "attention.layer_norm_epsilon": c["layer_norm_eps"],
    }  # fmt: skip


def share(c: Settings) -> float:
    """What the converter calls rotary_pct; those of transformers 5 are newer than it."""
    return float(c["rotary_pct"] if "rotary_pct" in c else c["rope_parameters"]["partial_rotary_factor"])


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


def starcoder2(c: Settings) -> Settings:
    return {
        "block_count": c["num_hidden_layers"], "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"], "feed_forward_length": c["intermediate_size"],
        "attention.head_count": c["num_attention_heads"], "attention.head_count_kv": c["num_key_value_heads"],
        "rope.freq_base": float(c["rope_theta"]), "attention.layer_norm_epsilon": c["norm_epsilon"],
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


def by_groups(name: str, array: Array, c: Settings) -> Array:
    if "query_key_value" not in name:
        return array
    return sections(array, kv_heads(c), c["num_attention_heads"] // kv_heads(c))


CONVERTERS = {
    "gpt_neox": Converter("gptneox", gptneox, head_by_head),
    "falcon-multi-query": Converter("falcon", falcon, by_groups),
    "falcon-grouped-two-norms": Converter("falcon", falcon, by_groups),
    "starcoder2-hub-no-bias-untied": Converter("starcoder2", starcoder2),
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
    assert replace(found, n_ctx=config.n_ctx) == config  # Falcon's is always said to be 2048
    assert checkpoint.family_of(path) == checkpoint.family_of(folder)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(same[name]), np.asarray(tensor), err_msg=name)
