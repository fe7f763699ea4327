"""SentencePiece's tokenizer.model: a message of protocol buffers (its src/sentencepiece_model.proto).

Read here, because the few fields that matter take a page, and the library that reads it all is not built for every
Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pygpt.errors import TokenizerError

UNIGRAM, BPE = 1, 2


@dataclass(slots=True)
class ModelFile:
    """What a tokenizer.model says, with the defaults of the format."""

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    charsmap: bytes = b""  # how it normalises text; empty: not at all
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TRAINER_FIELDS = {
    3: "model_type", 24: "whitespace_as_suffix", 35: "byte_fallback", 40: "unk_id", 41: "bos_id", 42: "eos_id",
}  # fmt: skip
_NORMALIZER_FIELDS = {2: "charsmap", 3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces"}


def read_model_file(path: Path) -> ModelFile:
    """TokenizerError for a file that cannot be read or is damaged."""
    try:
        return _parsed(path.read_bytes())
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, struct.error) as error:
        raise TokenizerError(f"{path}: not a model of SentencePiece: {error}") from error


def _parsed(data: bytes) -> ModelFile:
    model = ModelFile()
    for number, value in _fields(data):
        if number == _PIECES:
            piece = dict(_fields(_message(value)))
            score = piece.get(2, b"\0\0\0\0")
            model.pieces.append(_message(piece.get(1, b"")).decode())
            model.scores.append(struct.unpack("<f", _message(score))[0])
            model.types.append(_number(piece.get(3, 1)))
        elif number in (_TRAINER, _NORMALIZER):
            names = _TRAINER_FIELDS if number == _TRAINER else _NORMALIZER_FIELDS
            for key, inside in _fields(_message(value)):
                if key in names:
                    kind = type(getattr(model, names[key]))
                    setattr(model, names[key], _message(inside) if kind is bytes else kind(_number(inside)))
    if not model.pieces:
        raise ValueError("no pieces")
    return model


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes were expected")  # noqa: TRY004  # of the file
    return value


def _number(value: int | bytes) -> int:
    """An int32 or an enumeration; negative ones are written in 64 bits."""
    if isinstance(value, bytes):
        raise ValueError("bytes where a number was expected")  # noqa: TRY004  # of the file
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers of fields, and their values: numbers, or bytes, also of what has a fixed width."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            n, at = _varint(data, at)
        elif wire in (1, 5):
            n = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + n > len(data):
            raise ValueError("it ends in the middle")
        yield number, data[at : at + n]
        at += n


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
