"""The vocabulary that a saved checkpoint keeps made ready: equal to that of the files, and only as long as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pygpt import Model
from pygpt.errors import TokenizerError

SPELLINGS = "Hello, world! It's 1234 o'clock<|endoftext|>\n\n  né à 3 \u4e2d\u6587 \U0001f642 x_y"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    Model.load("tiny", threads=1).save(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_vocabulary_made_ready_is_that_of_the_files(tiny: Path) -> None:
    with_it = Model.load(tiny, threads=1).tokenizer
    assert with_it.n_vocab > 0  # which reads it
    (tiny / "vocabulary.safetensors").rename(tiny / "away")
    without = Model.load(tiny, threads=1).tokenizer
    ready, made = with_it._state, without._state
    for special in (False, True):
        assert with_it.encode(SPELLINGS, allow_special=special) == without.encode(SPELLINGS, allow_special=special)
    ids = range(-1, made.n_vocab + 2)
    assert [ready.texts.get(i, b"-") for i in ids] == [made.texts.get(i, b"-") for i in ids]  # type: ignore[union-attr]
    for name in ("n_vocab", "bos_id", "eos_id", "special_tokens"):
        assert getattr(with_it, name) == getattr(without, name)
    for name in ("prefix", "suffix", "prepend", "prefix_space"):
        assert getattr(ready, name) == getattr(made, name)


def test_a_vocabulary_made_ready_is_passed_over_when_the_files_change(tiny: Path) -> None:
    document = json.loads((tiny / "tokenizer.json").read_bytes())
    vocab = document["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    before = Model.load(tiny, threads=1).tokenizer.encode("ab zz")
    (tiny / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    assert Model.load(tiny, threads=1).tokenizer.encode("b") == [vocab["b"]]
    (tiny / "tokenizer.json").unlink()
    assert not Model.load(tiny, threads=1).has_tokenizer
    assert before


def test_another_versions_vocabulary_is_passed_over(tiny: Path) -> None:
    path = tiny / "vocabulary.safetensors"
    data = path.read_bytes()
    expected = Model.load(tiny, threads=1).tokenizer.encode(SPELLINGS)
    changed = data.replace(b'\\"version\\": 1', b'\\"version\\": 0').replace(b'"tokens"', b'"tokenz"')
    assert changed != data
    path.write_bytes(changed)
    assert Model.load(tiny, threads=1).tokenizer.encode(SPELLINGS) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, data: (header, data[:-8]), "whole safetensors"),
        (lambda header, data: (header.replace(b'"n_whole', b'"n_whol_'), data), "n_whole"),
        (lambda header, data: (header.replace(b'"splits', b'"splitz'), data), "splits"),
        (lambda header, data: (header.replace(b'"I32"', b'"F32"'), data), "is F32, but must be I32"),
        (lambda header, data: (header.replace(b'"ids"', b'"idz"'), data), "expected the tensors"),
        (lambda header, data: (header, bytes(len(data))), "token"),
        (lambda header, data: (header, b"\xff" * len(data)), "string 0 is cut short"),
    ],
)
def test_a_damaged_vocabulary_is_an_error_that_names_it(tiny: Path, change: Any, message: str) -> None:
    path = tiny / "vocabulary.safetensors"
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(b"".join(change(data[:n], data[n:])))
    model = Model.load(tiny, threads=1)  # which does not look at it yet
    with pytest.raises(TokenizerError, match=r"vocabulary\.safetensors") as caught:
        model.tokenizer.encode("a")
    assert message in str(caught.value)
