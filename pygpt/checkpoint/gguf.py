"""GGUF checkpoints: configuration and tokenizer from the metadata, tensors dequantised when they are asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.gguf_file import GgufFile, TensorInfo, parse
from pygpt.checkpoint.gguf_quants import dequantizer
from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, MappedFile, Stored, Tensor
from pygpt.config import ModelConfig, RopeScaling
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import Gguf, Settings, by_architecture, model_config
from pygpt.tokenizer import Tokenizer

PLAIN: dict[str, Dtype] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ROPE_FREQS = "rope_freqs.weight"


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Tokenizer | None]:
    """One GGUF file of the architectures that the families name. The tokenizer is None where the file has none."""
    file = parse(path)
    family, gguf = by_architecture(file.metadata.get("general.architecture"), str(path))
    _refuse_unsupported(path, file, gguf.architecture)
    config = model_config(family, _settings(path, file, gguf))
    stored = {name: _stored(file.file, info) for name, info in file.tensors.items()}
    if ROPE_FREQS in stored:
        config = _with_rope_freqs(path, config, stored.pop(ROPE_FREQS))
    tensors = canonical(path, config, stored, gguf.sources)
    tokenizer = Tokenizer.from_gguf(file.metadata, str(path)) if "tokenizer.ggml.tokens" in file.metadata else None
    return config, tensors, tokenizer


def _refuse_unsupported(path: Path, file: GgufFile, architecture: str) -> None:
    """Keys that change what the model computes and that pygpt does not know must not be passed over."""
    metadata = file.metadata
    if metadata.get("split.count", 1) not in (0, 1):
        raise CheckpointError(f"{path}: one part of a split GGUF; join the parts with llama.cpp's gguf-split --merge")
    for key in ("expert_count", "attention.sliding_window"):
        if metadata.get(f"{architecture}.{key}"):
            raise ConfigError(f"{path}: {architecture}.{key} is {metadata[f'{architecture}.{key}']!r}, but must be 0")


def _settings(path: Path, file: GgufFile, gguf: Gguf) -> Settings:
    """The metadata under the keys of the family's config.json."""
    metadata, arch = file.metadata, gguf.architecture
    names = {key: f"{arch}.{name}" for key, name in gguf.keys.items()}
    values = {key: metadata[name] for key, name in names.items() if name in metadata}
    # What the metadata leaves out, the tensors show.
    if "vocab_size" not in values and (embed := file.tensors.get("token_embd.weight")) is not None:
        values["vocab_size"] = embed.shape[0]
    values["tie_word_embeddings"] = "output.weight" not in file.tensors
    values["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    values["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    values["bos_token_id"] = metadata.get("tokenizer.ggml.bos_token_id")
    eos = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    values["eos_token_id"] = list(dict.fromkeys(token for token in eos if token is not None))
    names |= {"bos_token_id": "tokenizer.ggml.bos_token_id", "eos_token_id": "tokenizer.ggml.eos_token_id"}
    kind = metadata.get(f"{arch}.rope.scaling.type", "none")
    if kind != "none":
        values["rope_scaling"] = {"type": kind, "factor": metadata.get(f"{arch}.rope.scaling.factor")}
        names["rope_scaling"] = f"{arch}.rope.scaling"
    rope_dim, head_dim = metadata.get(f"{arch}.rope.dimension_count"), values.get("head_dim")
    if head_dim is None and "head_dim" in gguf.keys and rope_dim is not None:
        values["head_dim"], names["head_dim"] = rope_dim, f"{arch}.rope.dimension_count"
    elif rope_dim not in (None, head_dim) and "head_dim" in gguf.keys:
        raise ConfigError(f"{path}: {arch}.rope.dimension_count is {rope_dim!r}, but must be {head_dim!r}")
    return Settings(values=values, file=str(path), names=names)


def _stored(file: MappedFile, info: TensorInfo) -> Stored:
    kind = PLAIN.get(info.type.name)
    what = f"tensor {info.name!r}"
    if kind is not None:
        read = functools.partial(file.array, info.offset, info.shape, NUMPY_DTYPES[kind], what)
        return Stored(file.path, info.name, info.type.name, info.shape, kind, read)
    raw = functools.partial(file.array, info.offset, (info.nbytes,), np.dtype(np.uint8), what)
    return Stored(
        file.path, info.name, info.type.name, info.shape, "float32", functools.partial(_dequantized, raw, info)
    )


def _dequantized(raw: Callable[[], NDArray[np.generic]], info: TensorInfo) -> NDArray[np.generic]:
    return dequantizer(info.type)(raw()).reshape(info.shape)


def _with_rope_freqs(path: Path, config: ModelConfig, stored: Stored) -> ModelConfig:
    """Llama 3's frequency schedule, of which GGUF keeps only the divisor of each frequency: (dim/2,) float32.

    The factor is the greatest divisor; the rest of the schedule is Llama 3.1's, and is compared with the divisors.
    """
    plain = config.layers[0].rope
    if plain is None or stored.shape != (plain.dim // 2,) or stored.kind != "float32":
        raise CheckpointError(f"{path}: {ROPE_FREQS} has shape {list(stored.shape)} and does not fit the heads")
    divisors = stored.read().astype(np.float64)
    factor = float(divisors.max())
    if np.isfinite(factor) and factor >= 1:
        rope = dataclasses.replace(plain, scaling=RopeScaling(kind="llama3", factor=factor))
        expected = np.divide(plain.inv_freq(), rope.inv_freq())
        if np.allclose(divisors, expected, rtol=1e-4):
            return config.with_layers(rope=rope)
    raise ConfigError(f"{path}: {ROPE_FREQS} is not the schedule of Llama 3.1 (factors 1 and 4, context 8192)")
