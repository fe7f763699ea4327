"""Data for training: text, tokenised once into memory-mapped files.

`prepare` makes a folder with the tokenizer's files, ``train.tokens`` and ``validation.tokens`` (the ids one after
another, little-endian, 16 bits wide where the vocabulary has at most 65,536 tokens, else 32) and ``data.json`` (the
settings and counts). The folder appears when it is complete. See `pygpt.training.text` for what a text is.

The end-of-text token follows each document, so that a model learns where texts end. A character vocabulary has that
token only where the text has more than one document: a single file gives its characters and no more.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pygpt._json import read_table
from pygpt.checkpoint.folder import sync, sync_all
from pygpt.errors import TrainingError
from pygpt.tokenizer import Tokenizer, learn
from pygpt.training import vocabulary
from pygpt.training.text import TRAIN, VALIDATION, Division, Piece, Split, divide

Tokens = NDArray[np.unsignedinteger[Any]]
Progress = Callable[[str, int, int], None]

DEFAULT_VOCAB = 2048
"""Byte pairs that are learnt unless somebody says how many; fewer where the text has too few."""
_TABLE = "data.json"
_ASK_SECONDS = 0.05
_VERSION = 1


@dataclass(frozen=True)
class Dataset:
    """A text as tokens."""

    train: Tokens  # (n,) uint16 or uint32, memory-mapped
    validation: Tokens
    n_bytes: int  # of the validation text in UTF-8: bits per byte = nats of all its tokens / (ln 2 * n_bytes)
    tokenizer: Tokenizer
    n_vocab: int
    fingerprint: str  # SHA-256 of the settings and the text

    def check(self, n_ctx: int) -> None:
        """TrainingError unless both parts hold a window of n_ctx tokens and the one that follows it."""
        for name, tokens in (("training", self.train), ("validation", self.validation)):
            if len(tokens) <= n_ctx:
                raise TrainingError(
                    f"the {name} text has {len(tokens)} tokens, but a context of {n_ctx} needs at least {n_ctx + 1}: "
                    "give more text or a shorter context"
                )


def prepare(
    data: Path,
    folder: Path,
    *,
    tokenizer: Literal["bpe", "char"] | Path | Tokenizer,
    n_vocab: int | None = None,
    validation: float | Path = 0.1,
    split: Split = "tail",
    progress: Progress | None = None,
) -> Dataset:
    """Tokenise a text into a folder, or open the folder where that has been done with the same text and settings.

    Parameters
    ----------
    data
        A file, or a folder with .txt files.
    folder
        New, empty, or made by this function.
    tokenizer
        "bpe" learns byte pairs from the training text alone; "char" has a token for each character of the text; a path
        takes the tokenizer of a checkpoint or a folder with a tokenizer's files, and a `Tokenizer` is taken as it is.
    n_vocab
        The size of the vocabulary that "bpe" learns, at least 257; None: `DEFAULT_VOCAB`, or fewer where the text has
        too few pairs. None with the others.
    validation
        The share of the text, between 0 and 1, that is for validation; or a text of its own.
    split
        How the share is taken: "tail", the end of each file, or "document", whole documents.
    progress
        Called with what is done, bytes of text done, and bytes of text in all: a text is read once for its size, once
        for a vocabulary that is learnt from it, and once to be written as tokens. An exception ends the work.

    Raises ValueError for a setting out of range, and TrainingError for text that is missing, empty, not UTF-8 or too
    small for the vocabulary, for a folder with other contents, and where it cannot be written.
    """
    if tokenizer not in ("bpe", "char") and not isinstance(tokenizer, (Path, Tokenizer)):
        raise ValueError(f'tokenizer must be "bpe", "char", a Path or a Tokenizer, not {tokenizer!r}')
    if n_vocab is not None and tokenizer != "bpe":
        raise ValueError(f'n_vocab must be given for no other tokenizer than "bpe", but is {n_vocab!r}')
    if split not in ("tail", "document"):
        raise ValueError(f'split must be "tail" or "document", not {split!r}')
    if not isinstance(validation, Path) and not 0 < validation < 1:
        raise ValueError(f"validation must be a Path or a share between 0 and 1, not {validation!r}")
    report = progress or (lambda what, done, total: None)
    division = divide(data, validation, split, lambda done, total: report("reading the text", done, total))
    known = vocabulary.existing(tokenizer) if isinstance(tokenizer, Path) else tokenizer
    settings = {
        "version": _VERSION,
        "text": division.text.digest,
        "tokenizer": known if isinstance(known, str) else _digest(known),
        "n_vocab": n_vocab,
        "validation": division.held_out.digest if division.held_out else validation,
        "split": None if division.held_out else split,
    }
    if (folder / _TABLE).is_file():
        return reopen(folder, settings)
    try:
        _write(folder.absolute(), settings, division, known, n_vocab, report)
    except OSError as error:
        raise TrainingError(f"{folder}: the data cannot be written: {error.strerror or error}") from error
    return reopen(folder)


def reopen(folder: Path, settings: dict[str, object] | None = None) -> Dataset:
    """Open a folder that `prepare` made; the text need not be there any more.

    TrainingError for a damaged one, and where its settings are not the ones asked for.
    """
    try:
        table: dict[str, Any] = read_table(folder / _TABLE, TrainingError)
    except TrainingError as error:
        raise _damaged(folder, error) from error
    try:
        if settings is not None:
            _check_same(table["settings"], settings, folder)
        dtype = _dtype(table["n_vocab"])
        tokens = [
            np.memmap(_tokens_file(folder, part), dtype, "r", shape=table[count]).view(np.ndarray)
            for part, count in ((TRAIN, "n_train"), (VALIDATION, "n_validation"))
        ]
        tokenizer = Tokenizer.from_folder(folder, bos_id=table["bos_id"], eos_id=table["eos_id"])
        if tokenizer is None:
            raise FileNotFoundError("the tokenizer's files are missing")
        return Dataset(
            train=tokens[TRAIN],
            validation=tokens[VALIDATION],
            n_bytes=table["n_validation_bytes"],
            tokenizer=tokenizer,
            n_vocab=table["n_vocab"],
            fingerprint=_fingerprint(table["settings"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(f"{folder}: the data here is missing or damaged, and must be made anew: {error}")


def _write(
    folder: Path,
    settings: dict[str, object],
    division: Division,
    tokenizer: Literal["bpe", "char"] | Tokenizer,
    n_vocab: int | None,
    progress: Progress,
) -> None:
    """Write all files into a folder beside it, which is renamed when they are on the disk."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise TrainingError(f"{folder}: holds something else: data is prepared in a new or an empty folder")
    if isinstance(tokenizer, str):
        tokenizer = learnt(tokenizer, [division], n_vocab, progress)
    if tokenizer.eos_id is None and division.n_documents > 1:
        raise TrainingError(
            f"the text has {division.n_documents} documents, but the tokenizer names no token to end each of them"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        partial.mkdir(parents=True)
        tokenizer.save(partial)
        ids = {"n_vocab": tokenizer.n_vocab, "bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
        counts = _encode(
            _pieces([division], lambda done: progress("writing tokens", done, division.n_bytes)), tokenizer, partial
        )
        table = {"settings": settings} | ids | counts
        (partial / _TABLE).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        sync_all(partial)
        partial.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _pieces(divisions: Sequence[Division], tell: Callable[[int], object]) -> Iterator[tuple[int, Piece]]:
    """All pieces; `tell` hears of how many bytes they are, after each."""
    done = 0
    for division in divisions:
        for part, piece in division.pieces():
            yield part, piece
            done += len(piece[0].encode())
            tell(done)


def learnt(
    kind: Literal["bpe", "char"], divisions: Sequence[Division], n_vocab: int | None, progress: Progress
) -> Tokenizer:
    """A vocabulary from texts. Byte pairs are learnt in a thread, so that this one hears of Ctrl-C, and `progress`
    may raise, while somebody else's code works; that one then ends with the piece that it has."""
    what, total = "learning the vocabulary", sum(division.n_bytes for division in divisions)
    if kind == "char":
        pieces = _pieces(divisions, lambda done: progress(what, done, total))
        n_documents = max(division.n_documents for division in divisions)
        return learn.characters((piece for _, (piece, _) in pieces), n_documents > 1 or len(divisions) > 1)
    done = 0
    given_up = False
    found: list[Tokenizer | BaseException] = []

    def tell(n_bytes: int) -> None:
        nonlocal done
        done = n_bytes
        if given_up:
            raise InterruptedError

    def work() -> None:
        texts = (piece for part, (piece, _) in _pieces(divisions, tell) if part == TRAIN)
        try:
            found.append(learn.byte_pairs(texts, n_vocab or DEFAULT_VOCAB, at_most=n_vocab is None))
        except BaseException as error:  # raised below
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_ASK_SECONDS)
            progress(what, done, total)
        progress(what, done, total)
    except BaseException:
        given_up = True
        raise
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _encode(pieces: Iterator[tuple[int, Piece]], tokenizer: Tokenizer, folder: Path) -> dict[str, int]:
    """Write the token files; how many tokens each got, and the bytes of the validation text."""
    dtype, end = _dtype(tokenizer.n_vocab), tokenizer.eos_id
    n_tokens = [0, 0]
    n_bytes = 0
    with _tokens_file(folder, TRAIN).open("wb") as train, _tokens_file(folder, VALIDATION).open("wb") as held_out:
        continues = False  # pieces of one document come one after the other
        for part, (piece, ends) in pieces:
            ids = tokenizer.encode(piece, add_special=False, continues=continues)
            continues = not ends
            if ends and end is not None:
                ids.append(end)
            (held_out if part == VALIDATION else train).write(np.array(ids, dtype).tobytes())
            n_tokens[part] += len(ids)
            n_bytes += len(piece.encode()) if part == VALIDATION else 0
    if not all(n_tokens):
        raise TrainingError(
            f"the split leaves {n_tokens[TRAIN]} tokens for training and {n_tokens[VALIDATION]} for validation: "
            "give more text or another share"
        )
    return {"n_train": n_tokens[TRAIN], "n_validation": n_tokens[VALIDATION], "n_validation_bytes": n_bytes}


def _check_same(known: dict[str, object], settings: dict[str, object], folder: Path) -> None:
    changes = [
        f"{name} ({known.get(name)!s:.16} there, now {settings[name]!s:.16})"
        for name in settings
        if name not in known or known[name] != settings[name]
    ]
    if changes:
        raise TrainingError(f"{folder}: holds data that was prepared from something else: {', '.join(changes)}")


def _dtype(n_vocab: int) -> np.dtype[np.unsignedinteger[Any]]:
    return np.dtype("<u2" if n_vocab <= 1 << 16 else "<u4")


def _tokens_file(folder: Path, part: int) -> Path:
    return folder / ("train.tokens", "validation.tokens")[part]


def _fingerprint(settings: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of the files that a tokenizer saves, and of the tokens that begin and end a text."""
    digest = hashlib.sha256(f"{tokenizer.bos_id} {tokenizer.eos_id}".encode())
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        for file in sorted(Path(folder).iterdir()):
            digest.update(f"{file.name} {file.stat().st_size}".encode() + file.read_bytes())
    return digest.hexdigest()
