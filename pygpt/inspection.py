"""What a checkpoint is and what it would need, from headers alone: no weight is read and no vocabulary built."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pygpt import _core, checkpoint
from pygpt._json import read_table, shown
from pygpt.checkpoint import Tensor, Weights
from pygpt.checkpoint.folder import CONFIG
from pygpt.checkpoint.saved import MODEL_TYPE
from pygpt.config import ModelConfig
from pygpt.engine import KvFormat
from pygpt.errors import ConfigError, PygptError
from pygpt.families import settings_for
from pygpt.tokenizer import FILES

_SENTENCE_PIECE = "SentencePiece BPE"
_OF_GGUF = {"gpt2": "byte-level BPE", "llama": _SENTENCE_PIECE, "t5": "Unigram", "bert": "WordPiece"}
_MODEL = re.compile(rb'"model"\s*:\s*\{[^{}\[\]]*?"type"\s*:\s*"(\w+)"')  # of tokenizer.json
_BYTES = {"float32": 4, "bfloat16": 2}  # of a value of a packed tensor; the others take one
_PAGE = 64  # tokens: the cache grows by so many


class Inspection(NamedTuple):
    """A checkpoint without its weights."""

    path: Path
    family: str | None  # in the checkpoint's own words, where it has any: model_type, general.architecture
    config: ModelConfig | None  # None where `problem` says why there is none
    tokenizer: str | None  # its kind
    chat_templates: tuple[str, ...]  # their names
    problem: str | None  # why pygpt cannot run it
    blocks: frozenset[str] = frozenset()  # matrices that stay in MXFP4, whatever the format of the others

    def weight_bytes(self) -> dict[str, int]:
        """Memory of the packed weights by their format. ConfigError where there is no configuration."""
        sizes = {}
        for weights in get_args(Weights):
            packed = self._builder(weights, "float32").packed(self.blocks)
            sizes[weights] = sum(math.prod(shape) * _BYTES.get(dtype, 1) for dtype, shape in packed.values())
        return sizes

    def cache_bytes(self) -> dict[str, tuple[int, int]]:
        """Memory of keys and values by their format: of each of a text's first tokens, and of a text as long as the
        context, of which layers with a window hold the end. ConfigError where there is no configuration."""
        builders = {kv: self._builder("int8", kv) for kv in get_args(KvFormat)}
        n_ctx = self._config.n_ctx
        return {kv: (b.cache_bytes(_PAGE) // _PAGE, b.cache_bytes(n_ctx)) for kv, b in builders.items()}

    @property
    def _config(self) -> ModelConfig:
        if self.config is None:
            raise ConfigError(self.problem or f"{self.path}: no configuration")
        return self.config

    def _builder(self, weights: Any, kv: Any) -> _core.EngineBuilder:
        return _core.EngineBuilder(self._config.for_core(), weights=weights, kv=kv, threads=1, isa=None)


def inspect(path: Path) -> Inspection:
    """Look at a checkpoint that `checkpoint.locate` found. CheckpointError where there is none at all."""
    tensors: Mapping[str, Tensor]
    file = checkpoint.main_file(path)
    found = Inspection(path, _model_type(file.parent), None, _kind(file.parent), (), None)
    try:
        if _is_gguf(file):
            from pygpt.checkpoint.gguf import of_file
            from pygpt.checkpoint.gguf_parts import parse_parts

            parsed = parse_parts(file)
            kind = parsed.metadata.get("tokenizer.ggml.model")
            name = None if kind is None else _OF_GGUF.get(str(kind), shown(kind))
            found = found._replace(family=str(parsed.metadata.get("general.architecture")), tokenizer=name)
            config, tensors, tokenizer = of_file(file, parsed)
        else:
            config, tensors, tokenizer = checkpoint.read(path)
        places = config.tensor_places()
        blocks = frozenset(places[name][1] for name, tensor in tensors.items() if tensor.dtype.startswith("MXFP4"))
        found = found._replace(config=config, family=found.family or _family_of(config), blocks=blocks)
        if tokenizer is not None:
            templates = tuple(tokenizer.chat_templates)
            found = found._replace(tokenizer=found.tokenizer or _SENTENCE_PIECE, chat_templates=templates)
    except PygptError as error:
        return found._replace(problem=str(error))
    return found


def _family_of(config: ModelConfig) -> str | None:
    """The family that would export it; None: a model of its own, which only pygpt runs."""
    try:
        return settings_for(config)[0].name
    except ConfigError:
        return None


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"


def _model_type(folder: Path) -> str | None:
    """What config.json says; None where it does not: programs with a form of their own, and pygpt's."""
    try:
        kind = read_table(folder / CONFIG, ConfigError).get("model_type")
    except ConfigError:
        return None
    return kind if isinstance(kind, str) and kind != MODEL_TYPE else None


def _kind(folder: Path) -> str | None:
    """The kind of a folder's tokenizer. tokenizer.json may have 30 MB: it is searched, not parsed."""
    document = folder / FILES[0]
    if not document.is_file():
        if all((folder / name).is_file() for name in FILES[1:3]):
            return "byte-level BPE"
        return _SENTENCE_PIECE if (folder / "tokenizer.model").is_file() else None
    try:
        with document.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            match = _MODEL.search(text)
            begin, model = (text[: match.start()], text[match.start() : match.end() + 500]) if match else (b"", b"")
    except (OSError, ValueError):  # not to be read, or empty
        return "unknown"
    if b'"ByteLevel"' in begin:
        return "byte-level BPE"
    if b'"byte_fallback": true' in model or b'"byte_fallback":true' in model:
        return _SENTENCE_PIECE
    return match[1].decode() if match else "unknown"
