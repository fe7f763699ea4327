"""GGUF checkpoints: configuration and tokenizer from the metadata, tensors dequantised when they are asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt._json import shown
from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.gguf_file import GgufFile, TensorInfo, parse
from pygpt.checkpoint.gguf_keys import Metadata
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
    metadata = Metadata(file.metadata, str(path))
    kind = metadata.get("general.type")
    if kind not in (None, "model"):
        raise ConfigError(f"{path}: general.type is {shown(kind)}, but must be 'model': this is no model of its own")
    family, gguf = by_architecture(metadata.architecture, str(path))
    if metadata.get("split.count") not in (None, 0, 1):
        raise CheckpointError(f"{path}: one part of a split GGUF; join the parts with llama.cpp's gguf-split --merge")
    config = model_config(family, _settings(file, gguf, metadata))
    _check_layers(config, metadata, rotary="rope_theta" in gguf.keys)
    metadata.refuse_unknown()
    stored = {name: _stored(file.file, info) for name, info in file.tensors.items()}
    if ROPE_FREQS in stored:
        config = _with_rope_freqs(path, config, stored.pop(ROPE_FREQS))
    tensors = canonical(path, config, stored, gguf.sources)
    tokenizer = Tokenizer.from_gguf(file.metadata, str(path)) if "tokenizer.ggml.tokens" in file.metadata else None
    return config, tensors, tokenizer


def _settings(file: GgufFile, gguf: Gguf, metadata: Metadata) -> Settings:
    """The metadata under the keys of the family's config.json."""
    names = {key: metadata.name(name) for key, name in gguf.keys.items()}
    values = {key: value for key, name in gguf.keys.items() if (value := metadata.own(name)) is not None}
    # What the metadata leaves out, the tensors show.
    if "vocab_size" not in values and (embed := file.tensors.get("token_embd.weight")) is not None:
        values["vocab_size"] = embed.shape[0]
    values["tie_word_embeddings"] = "output.weight" not in file.tensors
    values["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    values["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    values["bos_token_id"] = file.metadata.get("tokenizer.ggml.bos_token_id")
    eos = (file.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    values["eos_token_id"] = [token for token in eos if token is not None]
    names |= {"bos_token_id": "tokenizer.ggml.bos_token_id", "eos_token_id": "tokenizer.ggml.eos_token_id"}
    if "rope_theta" in gguf.keys:
        values["rope_scaling"], names["rope_scaling"] = _rope_scaling(metadata), metadata.name("rope.scaling")
        if "head_dim" not in values and (rope_dim := metadata.own("rope.dimension_count")) is not None:
            values["head_dim"], names["head_dim"] = rope_dim, metadata.name("rope.dimension_count")
    return Settings(values=values, file=metadata.file, names=names)


def _rope_scaling(metadata: Metadata) -> dict[str, object] | None:
    """The stretch of the rotary frequencies. As in llama.cpp, it is linear where no type is named, its factor has an
    older name, 0 is no factor, and under the type "none" a factor counts for nothing."""
    kind = metadata.own("rope.scaling.type")
    given = {key: metadata.own(key) for key in ("rope.scaling.factor", "rope.scale_linear")}
    named = {key: value for key, value in given.items() if value is not None}
    for key, value in named.items():
        if type(value) not in (int, float):
            raise metadata.error(key, "a number")
    if len(set(named.values())) == 2:
        raise metadata.error("rope.scale_linear", f"{named['rope.scaling.factor']!r}, as rope.scaling.factor is")
    metadata.own("rope.scaling.finetuned")  # whether the model was trained with it
    if kind in (None, "linear"):
        metadata.own("rope.scaling.original_context_length")  # which a linear stretch does not depend on
    factor = next(iter(named.values()), None)
    if kind == "none" or (kind is None and factor in (None, 0)):
        return None
    return {"type": "linear" if kind is None else kind, "factor": factor}


def _check_layers(config: ModelConfig, metadata: Metadata, *, rotary: bool) -> None:
    """What the metadata says in addition about heads and attention must be what the configuration makes of it."""
    sizes = ["attention.key_length", "attention.value_length", *(["rope.dimension_count"] if rotary else [])]
    for key in sizes:
        if metadata.own(key) not in (None, config.head_dim):
            raise metadata.error(key, str(config.head_dim))
    usual = float(str(np.float32(config.head_dim**-0.5)))
    if metadata.own("attention.scale") not in (None, 0, usual):
        raise metadata.error("attention.scale", f"0, or 1 / sqrt of the width of a head ({usual})")


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
