"""Text to token files, and batches from them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pygpt import Tokenizer
from pygpt.errors import TokenizerError, TrainingError
from pygpt.tokenizer.byte_level import BYTE_LETTERS, ByteLevel
from pygpt.tokenizer.expressions import GPT2
from pygpt.tokenizer.vocabulary import AddedToken
from pygpt.training import text
from pygpt.training.data import Dataset, prepare, reopen

WORDS = "to be or not to be that is the question\n"
END = "<|endoftext|>"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of texts."""

    def make(*contents: str | bytes, name: str = "texts") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for i, content in enumerate(contents):
            (folder / f"{i}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return make


def characters(dataset: Dataset) -> tuple[str, str]:
    return tuple(dataset.tokenizer.decode(part.tolist()) for part in (dataset.train, dataset.validation))


# --- text -------------------------------------------------------------------------------------------------------------


def test_one_file_by_characters_is_divided_as_in_nanogpt(write: Callable[..., Path], tmp_path: Path) -> None:
    content = (WORDS * 7)[:-3]
    data = prepare(write(content) / "0.txt", tmp_path / "out", tokenizer="char")
    alphabet = sorted(set(content))
    n_train = int(len(content) * 0.9)
    assert data.train.tolist() == [alphabet.index(c) for c in content[:n_train]]
    assert data.validation.tolist() == [alphabet.index(c) for c in content[n_train:]]
    assert data.n_vocab == data.tokenizer.n_vocab == len(alphabet)
    assert data.n_bytes == len(content) - n_train
    assert data.train.dtype == np.uint16


def test_tiny_shakespeare_has_65_characters(tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "text" / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"{path.name} is not at hand")
    data = prepare(path, tmp_path / "out", tokenizer="char")
    assert (data.n_vocab, len(data.train), len(data.validation)) == (65, 1_003_854, 111_540)


def test_each_document_ends_with_the_end_of_text(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = write(f"ab{END}\ncd{END}{END}\r\n", "", f"{END}wxyz")
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("12", encoding="utf-8")
    (folder / "ignored.md").write_text("!", encoding="utf-8")
    data = prepare(folder, tmp_path / "out", tokenizer="char", validation=0.5)
    assert data.n_vocab == 11
    assert characters(data) == (f"ab{END}wx{END}1{END}", f"cd{END}yz{END}2{END}")
    assert data.n_bytes == 5


def test_whole_documents_are_drawn(write: Callable[..., Path], tmp_path: Path) -> None:
    documents = [f"{i}: {WORDS}" for i in range(40)]
    folder = write(END.join(documents[:25]), END.join(documents[25:]))
    data = prepare(folder, tmp_path / "out", tokenizer="char", validation=0.2, split="document")
    train, validation = (part.split(END)[:-1] for part in characters(data))
    assert (len(train), len(validation)) == (32, 8)
    assert sorted(train + validation) == sorted(documents)
    assert validation != documents[-8:]
    again = prepare(folder, tmp_path / "again", tokenizer="char", validation=0.2, split="document")
    assert np.array_equal(again.validation, data.validation)


def test_a_validation_text_of_its_own(write: Callable[..., Path], tmp_path: Path) -> None:
    train, held_out = write("abc", name="train") / "0.txt", write("décb", name="held out")
    data = prepare(train, tmp_path / "out", tokenizer="char", validation=held_out)
    assert characters(data) == ("abc", "décb")
    assert data.n_bytes == 5


def test_bad_bytes_are_named_with_their_offset(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_BLOCK", 5)
    for good, bad in (
        (b"abc d", b"\xff"),
        ("aé".encode() * 7, b"\xe9t\xe9"),
        (b"abcd", b"\xe6\x9d"),
        (b"", b"\xed\xa0\x80"),
    ):
        with pytest.raises(TrainingError, match=rf"1\.txt: byte {len(good)} is 0x{bad[0]:02x}, which is not UTF-8"):
            prepare(write("fine", good + bad, name=f"with {bad!r}"), tmp_path / "out", tokenizer="char")
    assert not (tmp_path / "out").exists()


# --- tokenizers, files and settings -----------------------------------------------------------------------------------


def test_byte_pairs_are_learnt_from_the_training_text_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    folder, held_out = write(WORDS * 9, WORDS * 2), write("zqzqzqzq " * 50, name="held out")
    data = prepare(folder, tmp_path / "out", tokenizer="bpe", n_vocab=280, validation=held_out)
    assert data.n_vocab == 280
    assert characters(data) == (WORDS * 9 + END + WORDS * 2 + END, "zqzqzqzq " * 50 + END)
    assert len(data.validation) == 450 + 1
    assert data.train[-1] == data.tokenizer.eos_id == 279


def test_an_existing_tokenizer(write: Callable[..., Path], gpt2_folder: Path, tmp_path: Path) -> None:
    folder = write(WORDS * 9)
    data = prepare(folder, tmp_path / "out", tokenizer=gpt2_folder)
    expected = Tokenizer.from_folder(gpt2_folder)
    assert expected is not None
    assert data.train.tolist() == [*expected.encode((WORDS * 9)[:324]), expected.eos_id]
    loaded = prepare(folder, tmp_path / "loaded", tokenizer=expected)
    assert np.array_equal(loaded.train, data.train)


def test_a_tokenizer_that_lacks_a_character_leaves_nothing_behind(write: Callable[..., Path], tmp_path: Path) -> None:
    known = prepare(write(WORDS * 2, name="known"), tmp_path / "known data", tokenizer="char").tokenizer
    with pytest.raises(TokenizerError, match="no token for the byte"):
        prepare(write(WORDS + "Z"), tmp_path / "out", tokenizer=known)
    with pytest.raises(TrainingError, match="2 documents, but the tokenizer names no token to end"):
        prepare(write(WORDS, WORDS, name="two"), tmp_path / "out", tokenizer=known)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["known", "known data", "texts", "two"]


def test_large_vocabularies_take_32_bits(write: Callable[..., Path], tmp_path: Path) -> None:
    large = Tokenizer(
        lambda: ByteLevel(
            source="test",
            tokens={letter: i for i, letter in enumerate(BYTE_LETTERS)},
            merges="",
            splits=(GPT2,),
            added=(AddedToken(text="<s>", id=65535), AddedToken(text=END, id=65536)),
            prefix=(65535,),  # begins a prompt, but no piece of a text for training
            eos_id=65536,
        )
    )
    data = prepare(write(WORDS), tmp_path / "out", tokenizer=large)
    assert (data.train.dtype, data.n_vocab) == (np.uint32, 65537)
    assert data.train[-1] == 65536
    assert 65535 not in data.train


def test_the_same_text_and_settings_are_not_tokenised_again(write: Callable[..., Path], tmp_path: Path) -> None:
    folder, out, calls = write(WORDS * 9, f"{WORDS}{END}{WORDS}"), tmp_path / "out", []

    def prepared(**changes: object) -> Dataset:
        settings = {"tokenizer": "bpe", "n_vocab": 270, "progress": lambda *n: calls.append(n)}
        return prepare(folder, out, **(settings | changes))  # type: ignore[arg-type]

    first = prepared()
    total = sum(p.stat().st_size for p in folder.iterdir())
    stages = list(dict.fromkeys(what for what, _, _ in calls))
    assert stages == ["reading the text", "learning the vocabulary", "writing tokens"]
    for stage in stages:
        done = [n for what, n, _ in calls if what == stage]
        assert done == sorted(done)
        assert total - len(END) <= done[-1] <= total  # end-of-text marks are in no piece
    assert {n for _, _, n in calls} == {total}
    calls.clear()
    assert reopen(out).fingerprint == first.fingerprint
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert before.keys() == {"data.json", "tokenizer.json", "train.tokens", "validation.tokens"}
    second = prepared()
    assert {what for what, _, _ in calls} == {"reading the text"}
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.validation, second.validation)
    assert (first.n_bytes, first.n_vocab, first.fingerprint) == (second.n_bytes, second.n_vocab, second.fingerprint)
    assert second.tokenizer.eos_id == 269
    for changes, named in (
        ({"n_vocab": 271}, r"n_vocab \(270 there, now 271\)$"),
        ({"validation": 0.2, "split": "document"}, r"validation \(0.1 .*split \(tail"),
        ({"n_vocab": None}, r"n_vocab \(270 there, now None\)$"),
        ({"tokenizer": "char", "n_vocab": None}, r"tokenizer \(bpe there, now char\), n_vocab"),
    ):
        with pytest.raises(TrainingError, match=f"out: holds data that was prepared from something else: {named}"):
            prepared(**changes)
    (folder / "1.txt").write_text("another text", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"something else: text \("):
        prepared()


def test_damaged_data_is_an_error(write: Callable[..., Path], tmp_path: Path) -> None:
    folder, out = write(WORDS * 9), tmp_path / "out"
    prepare(folder, out, tokenizer="char")
    with (out / "train.tokens").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(TrainingError, match="damaged"):
        prepare(folder, out, tokenizer="char")
    for content in ("{", "[" * 100_000, "[]", "{}", json.dumps({"settings": []})):
        (out / "data.json").write_text(content, encoding="utf-8")
        with pytest.raises(TrainingError, match="damaged"):
            prepare(folder, out, tokenizer="char")
    with pytest.raises(TrainingError, match="nowhere: the data here is missing"):
        reopen(tmp_path / "nowhere")


def test_a_folder_of_something_else_is_left_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.doc").write_text("chapter 1", encoding="utf-8")
    with pytest.raises(TrainingError, match="out: holds something else"):
        prepare(write(WORDS), out, tokenizer="char")
    assert [p.name for p in out.iterdir()] == ["thesis.doc"]


def test_a_full_disk_leaves_nothing_behind(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = write(WORDS * 9)
    (tmp_path / ".out.partial").mkdir()  # of a process that was killed
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingError, match="cannot be written: No space left"):
            prepare(folder, tmp_path / "out", tokenizer="char")
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]
    assert len(prepare(folder, tmp_path / "out", tokenizer="char").train) == 324


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "words"}, 'tokenizer must be "bpe"'),
        ({"n_vocab": 300}, "n_vocab must be given for no other tokenizer"),
        ({"tokenizer": "bpe", "n_vocab": 256}, "n_vocab must be at least 257"),
        ({"split": "head"}, "split must be"),
        ({"validation": 0.0}, "validation must be"),
        ({"validation": float("nan")}, "validation must be"),
    ],
)
def test_settings_out_of_range(write: Callable[..., Path], tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(write(WORDS), tmp_path / "out", **({"tokenizer": "char"} | changes))


def test_text_that_cannot_serve(write: Callable[..., Path], tmp_path: Path) -> None:
    def refused(data: Path, message: str, **changes: object) -> None:
        with pytest.raises(TrainingError, match=message):
            prepare(data, tmp_path / "out", **({"tokenizer": "char"} | changes))  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "absent", "absent: no such file or folder")
    refused(write(name="empty folder"), r"no \*\.txt file")
    refused(write("", name="empty") / "0.txt", "holds no text: 1 empty file")
    refused(write("", END, name="without characters"), "holds no text: 2 empty files")
    refused(write("a", name="one"), "leaves 0 tokens for training and 1 for validation")
    refused(write(WORDS, name="document"), "a single document", split="document")
    refused(write(WORDS, name="bpe"), "supports a vocabulary of at most", tokenizer="bpe", n_vocab=5000)
    refused(write(WORDS, name="own"), "nowhere: no such file", validation=tmp_path / "nowhere")


def test_a_text_shorter_than_the_context(write: Callable[..., Path], tmp_path: Path) -> None:
    data = prepare(write("0123456789" * 4), tmp_path / "out", tokenizer="char")
    data.check(3)
    with pytest.raises(TrainingError, match="the validation text has 4 tokens, but a context of 4 needs at least 5"):
        data.check(4)
    with pytest.raises(TrainingError, match="the training text has 36 tokens"):
        data.check(36)
