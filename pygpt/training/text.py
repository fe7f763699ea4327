"""Text for training: files in UTF-8, their documents, and the division into training and validation text.

A text is one file, or a folder: all `*.txt` files below it, sorted by name. It is taken as it is, byte for byte. Each
file ends a document, and so does ``<|endoftext|>`` (with one newline that may follow it) inside a file; a document
without any character counts for nothing.

Files are read in pieces of about a megabyte, so that a text may be larger than the memory. A piece ends after a letter
or digit and before whitespace, where the expression of every known tokenizer ends a word too: the tokens of the
pieces are those of the whole document. (A document without any such place is one piece.)
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pygpt.errors import TrainingError
from pygpt.tokenizer.vocabulary import END_OF_TEXT

Split = Literal["tail", "document"]
Piece = tuple[str, bool]  # some characters, and whether they end a document; never empty

TRAIN, VALIDATION = 0, 1
_BLOCK = 1 << 20
_END = re.compile(re.escape(END_OF_TEXT) + r"(?:\r?\n)?")
_LAST_CUT = re.compile(r"(?s:.*)[^\W_](?=\s)")
_DRAW = 20180611  # any fixed number: the same text gives the same split


@dataclass(frozen=True)
class Text:
    """What one reading of a text tells."""

    files: tuple[Path, ...]
    n_chars: tuple[int, ...]  # of each file's documents
    n_documents: int
    n_bytes: int  # of the files
    digest: str  # SHA-256 over the files' contents, in their order; their names do not count


def size(path: Path) -> int:
    """The bytes of a text, which is not read. TrainingError where there is none."""
    return sum(file.stat().st_size for file in _files(path))


def scan(path: Path, progress: Callable[[int, int], object] | None = None) -> Text:
    """Read a text once. TrainingError where there is none, or where it is not UTF-8, with the offset of the byte.
    `progress` is called with the bytes read and the bytes of all files."""
    files = _files(path)
    total = sum(file.stat().st_size for file in files)
    digest = hashlib.sha256()
    n_chars = []
    n_documents = n_bytes = n_read = 0
    for file in files:
        contents = hashlib.sha256()
        pieces = []
        for piece, end in _documents(file, contents.update):
            pieces.append((len(piece), end))
            n_read += len(piece)
            if progress is not None:
                progress(min(n_read, total), total)
        n_chars.append(sum(n for n, _ in pieces))
        n_documents += sum(end for _, end in pieces)
        n_bytes += file.stat().st_size
        digest.update(contents.digest())
    if not n_documents:
        raise TrainingError(f"{path}: holds no text: {len(files)} empty file{'s' if len(files) > 1 else ''}")
    return Text(tuple(files), tuple(n_chars), n_documents, n_bytes, digest.hexdigest())


@dataclass(frozen=True)
class Division:
    """A text in two parts: split, or with a validation text of its own, `held_out`."""

    text: Text
    held_out: Text | None
    by: Split
    share: float

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return self.text.n_bytes + (self.held_out.n_bytes if self.held_out else 0)

    @property
    def n_documents(self) -> int:
        """Of the larger text."""
        return max(self.text.n_documents, self.held_out.n_documents if self.held_out else 0)

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """All pieces in their order, each with its part: TRAIN or VALIDATION.

        "tail": of each file of n characters the first int(n * (1 - share)) are for training; a document that is cut
        ends in both parts. "document": whole documents, a share of their number, drawn at random but always the same.
        """
        if self.held_out is not None:
            for part, text in ((TRAIN, self.text), (VALIDATION, self.held_out)):
                yield from ((part, piece) for file in text.files for piece in _documents(file))
        elif self.by == "tail":
            yield from _tail(self.text, self.share)
        else:
            yield from _drawn(self.text, self.share)


def divide(
    data: Path, validation: float | Path, by: Split, progress: Callable[[int, int], object] | None = None
) -> Division:
    """Read the text, and the validation text if it is one of its own, and check that they can serve; see `scan`."""
    text = scan(data, progress)
    if isinstance(validation, Path):
        return Division(text, scan(validation, progress), by, 0.0)
    if by == "document" and text.n_documents < 2:
        raise TrainingError(f"{data}: holds a single document, which can be split by its tail, but not by document")
    return Division(text, None, by, validation)


def _tail(text: Text, share: float) -> Iterator[tuple[int, Piece]]:
    for file, n_chars in zip(text.files, text.n_chars, strict=True):
        left = int(n_chars * (1 - share))
        for piece, end in _documents(file):
            if left:
                yield TRAIN, (piece[:left], end or len(piece) >= left)
            if len(piece) > left:
                yield VALIDATION, (piece[left:], end)
            left = max(0, left - len(piece))


def _drawn(text: Text, share: float) -> Iterator[tuple[int, Piece]]:
    n = text.n_documents
    n_drawn = min(max(1, round(n * share)), n - 1)
    drawn = set(np.argsort(np.random.Philox(_DRAW).random_raw(n))[:n_drawn].tolist())
    number = 0
    for file in text.files:
        for piece, end in _documents(file):
            yield VALIDATION if number in drawn else TRAIN, (piece, end)
            number += end


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = sorted((p for p in path.rglob("*.txt") if p.is_file()), key=lambda p: p.relative_to(path).parts)
            if not files:
                raise TrainingError(f"{path}: no *.txt file in this folder or below it")
            return files
        path.stat()
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file or folder") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(f"{path}: cannot be read: {why}") from error
    return [path]


def _documents(file: Path, seen: Callable[[bytes], object] | None = None) -> Iterator[Piece]:
    held = ""
    for text in _pieces(file, seen):
        for k, piece in enumerate(_END.split(text)):
            if held and (k or piece):
                yield held, k > 0
                held = ""
            held = piece or held
    if held:
        yield held, True


def _pieces(file: Path, seen: Callable[[bytes], object] | None) -> Iterator[str]:
    """A file's text, cut where no word and no end-of-text mark is torn. `seen` gets its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    rest: list[str] = []  # what follows the last place for a cut
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                if seen is not None:
                    seen(block)
                text = decoder.decode(block)
                offset += len(block)
                cut = _LAST_CUT.match(text)
                if cut is not None:
                    yield "".join([*rest, text[: cut.end()]])
                    rest = []
                rest.append(text[cut.end() if cut else 0 :])
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at = offset - len(decoder.getstate()[0]) + error.start
        raise TrainingError(
            f"{file}: byte {at} is 0x{error.object[error.start]:02x}, which is not UTF-8 there ({error.reason}): "
            "text for training must be UTF-8"
        ) from None
    except OSError as error:
        raise TrainingError(f"{file}: cannot be read: {error.strerror or error}") from error
    if any(rest):
        yield "".join(rest)
