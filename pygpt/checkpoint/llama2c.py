"""llama2.c's files: a header of sizes, then all weights one after the other; and its tokenizer, pieces with scores.

Three versions of the weights' file: seven integers and float32; a magic number and float32; the same with int8 in
groups that share a scale. Formats: export.py, run.c, runq.c and tokenizer.py of https://github.com/karpathy/llama2.c
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.tensor import MappedFile, Stored, Tensor
from pygpt.config import MAX_LAYERS, ModelConfig
from pygpt.errors import CheckpointError
from pygpt.families import Settings, by_model_type, keys, model_config
from pygpt.tokenizer import Tokenizer

MAGIC = b"24ka"  # "ak42" as a little-endian integer

_FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
_OLD, _NEW = struct.Struct("<7i"), struct.Struct("<4si7iBi")  # magic, version, sizes, shared_classifier, group_size
_HEADER = 256  # bytes of the new one
_MAX_TOKENIZER = 1 << 28  # bytes

_Shapes = list[tuple[str, tuple[int, ...]]]


class _Header:
    """What a file says of itself; ValueError where it cannot be llama2.c's."""

    def __init__(self, begin: bytes, file_size: int) -> None:
        self.version, self.group = 0, 0
        if begin.startswith(MAGIC):
            _, self.version, *sizes, shared, self.group = _NEW.unpack_from(begin.ljust(_NEW.size, b"\0"))
            self.data = _HEADER
        else:
            sizes = list(_OLD.unpack_from(begin.ljust(_OLD.size, b"\0")))
            shared = sizes[5] > 0
            sizes[5] = abs(sizes[5])
            self.data = _OLD.size
        if min(sizes) < 1 or sizes[2] > MAX_LAYERS or sizes[0] % sizes[3] or sizes[3] % sizes[4]:
            raise ValueError(f"its sizes are {dict(zip(_FIELDS, sizes, strict=True))}")
        self.sizes = {**dict(zip(_FIELDS, sizes, strict=True)), "shared_classifier": bool(shared)}
        if self.version not in (0, 1, 2):
            raise ValueError(f"its version is {self.version}, but 1 and 2 are known")
        if self.version == 2 and (self.group < 1 or any(math.prod(shape) % self.group for _, shape in self.matrices())):
            raise ValueError(f"its groups of {self.group} values do not make up its matrices")
        self.nbytes = self.data + sum(self.nbytes_of(shape) for _, shape in self.tensors())
        if self.nbytes != file_size:
            raise ValueError(f"its sizes are {self.sizes}, which take {self.nbytes} bytes; the file has {file_size}")

    def nbytes_of(self, shape: tuple[int, ...]) -> int:
        count = math.prod(shape)
        if self.version == 2 and len(shape) == 2:
            return count + count // self.group * 4
        return count * 4

    def matrices(self) -> _Shapes:
        return [(name, shape) for name, shape in self.tensors() if len(shape) == 2]

    def tensors(self) -> _Shapes:
        """Names and shapes in the order of the file. The tables of rotary angles in old files get names, too."""
        d, inner, n, heads, kv_heads, vocab, n_ctx = (self.sizes[name] for name in _FIELDS)
        kv, half = d // heads * kv_heads, d // heads // 2

        def of_layers(name: str, *shape: int) -> _Shapes:
            return [(f"layers.{i}.{name}.weight", shape) for i in range(n)]

        attention = [
            *(of_layers("attention.wq", d, d) + of_layers("attention.wk", kv, d)),
            *(of_layers("attention.wv", kv, d) + of_layers("attention.wo", d, d)),
        ]
        mlp = [
            *of_layers("feed_forward.w1", inner, d),
            *of_layers("feed_forward.w2", d, inner),
            *of_layers("feed_forward.w3", inner, d),
        ]
        norms = of_layers("attention_norm", d), of_layers("ffn_norm", d), [("norm.weight", (d,))]
        embed = [("tok_embeddings.weight", (vocab, d))]
        head = [] if self.sizes["shared_classifier"] else [("output.weight", (vocab, d))]
        if self.version:
            return [*norms[0], *norms[1], *norms[2], *embed, *attention, *mlp, *head]
        angles = [(name, (n_ctx, half)) for name in ("freqs_cos", "freqs_sin")]
        return [*embed, *norms[0], *attention, *norms[1], *mlp, *norms[2], *angles, *head]


def is_llama2c(path: Path) -> bool:
    """Whether a file has llama2.c's magic number, or sizes at its beginning that make up its length."""
    try:
        with path.open("rb") as file:
            begin = file.read(_NEW.size)
        if not begin.startswith(MAGIC):
            _Header(begin, path.stat().st_size)
    except (OSError, ValueError):
        return False
    return True


def read_llama2c(path: Path) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    """A file of weights, with a tokenizer beside it: tokenizer.bin or tok*.bin, the first with as many pieces as the
    model has tokens. Raises CheckpointError and ConfigError, as `pygpt.checkpoint.read` says."""
    file = MappedFile(path)
    with file.map(0, min(file.size, _NEW.size), "the header") as begin:
        try:
            header = _Header(begin[: _NEW.size], file.size)
        except ValueError as error:
            raise CheckpointError(f"{path}: not a whole file of llama2.c: {error}") from error
    settings = Settings({"model_type": "llama2.c", **header.sizes}, str(path))
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), family.harmless, settings.file)
    stored, at = {}, header.data
    for name, shape in header.tensors():
        if not name.startswith("freqs_"):
            stored[name] = _stored(file, header, name, shape, at)
        at += header.nbytes_of(shape)
    return config, canonical(path, config, stored, family.sources_of(config)), _tokenizer(path, config)


def _stored(file: MappedFile, header: _Header, name: str, shape: tuple[int, ...], at: int) -> Stored:
    if header.version == 2 and len(shape) == 2:
        dequantized = functools.partial(_dequantized, file, at, shape, header.group, name)
        return Stored(file.path, name, "int8 in groups", shape, "float32", dequantized)
    read = functools.partial(file.array, at, shape, np.dtype("<f4"), f"tensor {name!r}")
    return Stored(file.path, name, "F32", shape, "float32", read)


def _dequantized(file: MappedFile, at: int, shape: tuple[int, ...], group: int, name: str) -> NDArray[np.generic]:
    """The int8 values of a tensor, then a scale for each group of them."""
    count = math.prod(shape)
    q = file.array(at, (count // group, group), np.dtype(np.int8), f"tensor {name!r}")
    scales = file.array(at + count, (count // group, 1), np.dtype("<f4"), f"the scales of {name!r}")
    return (q.astype(np.float32) * scales.astype(np.float32)).reshape(shape)


# --- the tokenizer -------------------------------------------------------------------------------------------------


def _tokenizer(path: Path, config: ModelConfig) -> Tokenizer | None:
    """What lies beside the weights; None where there is none. CheckpointError where all are of other sizes."""
    names = [path.with_name("tokenizer.bin"), *sorted(path.parent.glob("tok*.bin"))]
    found = {name: read_pieces(name) for name in names if name != path and name.is_file()}
    for name, (pieces, scores) in found.items():
        if len(pieces) == config.n_vocab:
            return Tokenizer.from_pieces(pieces, scores, bos_id=1, eos_id=2, source=str(name))
    if found:
        sizes = ", ".join(f"{name.name} with {len(pieces)}" for name, (pieces, _) in found.items())
        raise CheckpointError(f"{path}: has {config.n_vocab} tokens, but beside it is {sizes}")
    return Tokenizer.from_folder(path.parent, bos_id=config.bos_id, eos_id=2)


def read_pieces(path: Path) -> tuple[list[bytes], list[float]]:
    """A tokenizer's file: the length of the longest piece, then for each a score, its length and its bytes."""
    try:
        data = path.read_bytes() if path.stat().st_size < _MAX_TOKENIZER else b""
        entries = list(_pieces(data))
    except (OSError, struct.error, ValueError) as error:
        raise CheckpointError(f"{path}: not a tokenizer of llama2.c: {error}") from error
    return [piece for _, piece in entries], [score for score, _ in entries]


def _pieces(data: bytes) -> Iterator[tuple[float, bytes]]:
    (longest,) = struct.unpack_from("<I", data)
    at = 4
    while at < len(data):
        score, length = struct.unpack_from("<fI", data, at)
        at += 8
        if length > longest or at + length > len(data):
            raise ValueError(f"the piece at byte {at} has {length} bytes, of {longest} at most")
        yield score, data[at : at + length]
        at += length
