"""GGUF checkpoints: configuration and tokenizer from the metadata, tensors as rows of blocks, which the core
dequantises piece by piece while it packs them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from pygpt._json import shown
from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.gguf_file import GgufFile, TensorInfo
from pygpt.checkpoint.gguf_keys import Metadata
from pygpt.checkpoint.gguf_parts import parse_parts
from pygpt.checkpoint.gguf_rope import RopeTensors
from pygpt.checkpoint.gguf_settings import check, settings
from pygpt.checkpoint.tensor import NUMPY_DTYPES, Dtype, Stored, Tensor
from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import Family, Gguf, Source, by_architecture, model_config
from pygpt.families.base import fused_qkv
from pygpt.tokenizer import Tokenizer

PLAIN: dict[str, Dtype] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Tokenizer | None]:
    """A GGUF file of the architectures that the families name, or any part of a model that was split. The tokenizer is
    None where the file has none."""
    return of_file(path, parse_parts(path))


def of_file(path: Path, file: GgufFile) -> tuple[ModelConfig, dict[str, Tensor], Tokenizer | None]:
    """The same of a file that was parsed."""
    metadata = Metadata(file.metadata, str(path))
    kind = metadata.get("general.type")
    if kind not in (None, "model"):
        raise ConfigError(f"{path}: general.type is {shown(kind)}, but must be 'model': this is no model of its own")
    family, gguf = _family(metadata)
    stored = {name: _stored(info) for name, info in file.tensors.items()}
    rope_tensors = RopeTensors.taken_from(stored)
    offered = settings(metadata, gguf, {name: tensor.shape for name, tensor in stored.items()}, rope_tensors)
    config = model_config(family, offered)
    check(config, metadata)
    metadata.refuse_unknown(offered.asked())
    tensors = canonical(path, config, stored, _with_fused(gguf.sources, stored))
    tokenizer = Tokenizer.from_gguf(file.metadata, str(path)) if "tokenizer.ggml.tokens" in file.metadata else None
    return config, tensors, tokenizer


def family_of_gguf(path: Path) -> str:
    """The name of its family."""
    return _family(Metadata(parse_parts(path).metadata, str(path)))[0].name


def _family(metadata: Metadata) -> tuple[Family, Gguf]:
    return by_architecture(metadata.architecture, metadata.file, experts=metadata.peek("expert_count") not in (None, 0))


def _with_fused(sources: Mapping[str, Source], names: Collection[str]) -> Mapping[str, Source]:
    """The sources, where a file has q, k and v of each block as one: llama.cpp reads both, and its converter writes
    that for Phi-2 before 2024, and since 2026 for whoever asks. (Not where the rows of q and k change places.)"""
    fused = fused_qkv("blk.{i}.attn_qkv")
    if "blk.0.attn_qkv.weight" not in names or any(sources[name].interleaved for name in fused):
        return sources
    return {**sources, **fused}


def _stored(info: TensorInfo) -> Stored:
    kind = PLAIN.get(info.type.name)
    row_bytes = info.shape[-1] // info.type.block * info.type.nbytes
    shape = (*info.shape[:-1], row_bytes) if kind is None else info.shape
    dtype: np.dtype[np.generic] = np.dtype(np.uint8) if kind is None else NUMPY_DTYPES[kind]
    read = functools.partial(info.file.array, info.offset, shape, dtype, f"tensor {info.name!r}")
    stored = Stored(info.file.path, info.name, info.type.name, info.shape, kind or info.type.name, read)
    return stored if len(shape) > 1 else stored.plain()
