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


class Gguf:
    """Writes GGUF files with the package gguf, from tensors under their Hugging Face names."""

    @staticmethod
    def permuted(w: Array, n_head: int) -> Array:
        """llama.cpp's order of the rows of q and k: pairs (i, i + d/2) become neighbours."""
        return w.reshape(n_head, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)

    @staticmethod
    def llama_tensors(hf: dict[str, Array], n_head: int, n_kv_head: int) -> dict[str, Array]:
        """A Llama's Hugging Face tensors under GGUF's names."""
        names = {
            "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
            "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
        }  # fmt: skip
        out = {}
        for name, array in hf.items():
            if "q_proj" in name or "k_proj" in name:
                array = Gguf.permuted(array, n_head if "q_proj" in name else n_kv_head)
            for old, new in names.items():
                name = name.replace(old, new)
            out[name] = np.ascontiguousarray(array)
        return out

    @staticmethod
    def gpt2_tensors(hf: dict[str, Array]) -> dict[str, Array]:
        names = {
            "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
            "ln_1": "attn_norm", "ln_2": "ffn_norm", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm",
            "h.0.": "blk.0.", "h.1.": "blk.1.",
        }  # fmt: skip
        out = {}
        for name, array in hf.items():
            if array.ndim == 2 and ".c_" in name:
                array = array.T
            for old, new in names.items():
                name = name.replace(old, new)
            out[name] = np.ascontiguousarray(array)
        return out

    @staticmethod
    def llama_metadata(config: dict[str, Any]) -> dict[str, Any]:
        return {
            "llama.block_count": config["num_hidden_layers"],
            "llama.context_length": config["max_position_embeddings"],
            "llama.embedding_length": config["hidden_size"],
            "llama.feed_forward_length": config["intermediate_size"],
            "llama.attention.head_count": config["num_attention_heads"],
            "llama.attention.head_count_kv": config["num_key_value_heads"],
            "llama.attention.key_length": config["head_dim"],
            "llama.rope.dimension_count": config["head_dim"],
            "llama.rope.freq_base": float(config["rope_theta"]),
            "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
        }

    @staticmethod
    def write(
        path: Path, arch: str, metadata: dict[str, Any], tensors: dict[str, Array], types: dict[str, str]
    ) -> Path:
        """A file by the package; `types` names how a tensor is quantised. Bytes are blocks already."""
        gguf = pytest.importorskip("gguf")
        writer = gguf.GGUFWriter(path, arch)
        for key, value in metadata.items():
            if value is None:
                continue
            if isinstance(value, float):
                writer.add_float32(key, value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            elif isinstance(value, str):
                writer.add_string(key, value)
            else:
                writer.add_array(key, value)
        for name, array in tensors.items():
            kind = gguf.GGMLQuantizationType[types.get(name, "F32")]
            raw = array if array.dtype == np.uint8 else gguf.quants.quantize(array, kind)
            writer.add_tensor(name, raw, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    @staticmethod
    def write_llama(path: Path, llama: Any, changes: dict[str, Any] | None = None, **tensors: Array) -> Path:
        metadata = Gguf.llama_metadata(llama.config) | (changes or {})
        arrays = Gguf.llama_tensors(llama.tensors, 4, 2) | {k.replace("__", "."): v for k, v in tensors.items()}
        return Gguf.write(path, "llama", metadata, arrays, {})


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


@pytest.fixture
def writer() -> type[Gguf]:
    return Gguf
