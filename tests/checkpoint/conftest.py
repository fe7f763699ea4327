"""Tiny checkpoints, made on the fly: files whose every byte a test can spoil."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "float64": "F64", "int64": "I64", "bool": "BOOL"}
"""NumPy's names to safetensors'; uint16 holds bfloat16."""


def pack(header: object, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file of a header (a table, or bytes as they are) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def safetensors_header(tensors: Mapping[str, Array]) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        raw = array.tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    return header, data


def bfloat16(array: Array) -> Array:
    """float32 cut to its upper half, as uint16."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


class Gpt2:
    """A GPT-2 of two layers: config.json and tensors, to be changed at will before `write`."""

    def __init__(self) -> None:
        d, inner, vocab, ctx = 6, 10, 11, 5
        rng = np.random.default_rng(1)

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape, dtype=np.float32)

        self.config: dict[str, Any] = {
            "model_type": "gpt2", "vocab_size": vocab, "n_positions": ctx, "n_embd": d, "n_head": 2, "n_layer": 2,
            "n_inner": inner, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        }  # fmt: skip
        self.tensors: dict[str, Array] = {"wte.weight": normal(vocab, d), "wpe.weight": normal(ctx, d)}
        for i in range(2):
            for name, n_in, n_out in (
                ("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, inner), ("mlp.c_proj", inner, d),
            ):  # fmt: skip
                self.tensors[f"h.{i}.{name}.weight"] = normal(n_in, n_out)
                self.tensors[f"h.{i}.{name}.bias"] = normal(n_out)
            for norm in ("ln_1", "ln_2"):
                self.tensors[f"h.{i}.{norm}.weight"] = normal(d)
                self.tensors[f"h.{i}.{norm}.bias"] = normal(d)
        self.tensors["ln_f.weight"], self.tensors["ln_f.bias"] = normal(d), normal(d)

    def prefixed(self) -> dict[str, Array]:
        return {f"transformer.{name}": array for name, array in self.tensors.items()}

    def write(self, folder: Path, tensors: Mapping[str, Array] | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        header, data = safetensors_header(self.tensors if tensors is None else tensors)
        (folder / "model.safetensors").write_bytes(pack(header, data))
        return folder


class Llama:
    """A Llama of two layers with grouped-query attention, tied."""

    def __init__(self) -> None:
        d, inner, vocab, heads, kv_heads, head_dim = 8, 12, 11, 4, 2, 4
        rng = np.random.default_rng(2)

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape, dtype=np.float32)

        self.config: dict[str, Any] = {
            "model_type": "llama", "vocab_size": vocab, "max_position_embeddings": 16, "hidden_size": d,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
            "num_hidden_layers": 2, "intermediate_size": inner, "hidden_act": "silu", "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True, "rope_theta": 5000.0,
        }  # fmt: skip
        self.tensors: dict[str, Array] = {"model.embed_tokens.weight": normal(vocab, d)}
        for i in range(2):
            for name, n_in, n_out in (
                ("self_attn.q_proj", d, heads * head_dim), ("self_attn.k_proj", d, kv_heads * head_dim),
                ("self_attn.v_proj", d, kv_heads * head_dim), ("self_attn.o_proj", heads * head_dim, d),
                ("mlp.gate_proj", d, inner), ("mlp.up_proj", d, inner), ("mlp.down_proj", inner, d),
            ):  # fmt: skip
                self.tensors[f"model.layers.{i}.{name}.weight"] = normal(n_out, n_in)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                self.tensors[f"model.layers.{i}.{norm}.weight"] = normal(d)
        self.tensors["model.norm.weight"] = normal(d)

    write = Gpt2.write


@pytest.fixture
def gpt2() -> Gpt2:
    return Gpt2()


@pytest.fixture
def llama() -> Llama:
    return Llama()


@pytest.fixture
def packed() -> Callable[..., bytes]:
    return pack


@pytest.fixture
def header_of() -> Callable[[Mapping[str, Array]], tuple[dict[str, Any], bytes]]:
    return safetensors_header


@pytest.fixture
def to_bfloat16() -> Callable[[Array], Array]:
    return bfloat16
