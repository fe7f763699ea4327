"""SentencePiece's BPE against sentencepiece itself (tests/make_piece_goldens.py), from every layout."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer, character_words
from pygpt.tokenizer.model_file import ModelFile, read_model_file

PIECES = Path(__file__).resolve().parents[1] / "data" / "pieces"
GOLDENS: dict[str, Any] = json.loads((PIECES / "goldens.json").read_text(encoding="utf-8"))
TEXTS: list[str] = GOLDENS["texts"]
BPE = ("llama", "gemma")


def metadata(name: str, **changes: object) -> dict[str, object]:
    """As GGUF files hold the model of that name; but for bos, which the goldens do not have."""
    model = read_model_file(PIECES / f"{name}.model")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [piece.encode() for piece in model.pieces],
        "tokenizer.ggml.scores": np.array(model.scores, np.float32),
        "tokenizer.ggml.token_type": np.array(model.types, np.int32),
        "tokenizer.ggml.bos_token_id": model.bos_id,
        "tokenizer.ggml.eos_token_id": model.eos_id,
        "tokenizer.ggml.unknown_token_id": model.unk_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def check(tokenizer: Tokenizer, name: str) -> None:
    for text, ids, decoded in zip(TEXTS, GOLDENS[name], GOLDENS[f"{name}-decoded"], strict=True):
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == decoded
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, ids), stream.finish()]) == decoded


@pytest.mark.parametrize("name", BPE)
def test_gguf_equals_original(name: str) -> None:
    check(Tokenizer.from_gguf(metadata(name), "x.gguf"), name)


@pytest.mark.parametrize("name", BPE)
def test_saved_as_tokenizer_json(name: str, tmp_path: Path) -> None:
    gguf = Tokenizer.from_gguf(metadata(name), "x.gguf")
    gguf.save(tmp_path)
    saved = Tokenizer.from_folder(tmp_path)
    assert saved is not None
    check(saved, name)
    assert saved.special_tokens == gguf.special_tokens
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    library.encode_special_tokens = True
    r = random.Random(0)
    alphabet = sorted({*"".join(TEXTS)})
    noise = ["".join(r.choices(alphabet, k=r.randint(1, 30))) for _ in range(300)]
    for text in [*TEXTS, *noise]:
        ids = library.encode(text).ids
        assert saved.encode(text) == gguf.encode(text) == ids, text
        assert saved.decode(ids) == library.decode(ids, skip_special_tokens=False)


def test_begin_of_text_and_special_tokens() -> None:
    tokenizer = Tokenizer.from_gguf(metadata("llama", add_bos_token=True), "x.gguf")
    plain = tokenizer.encode("to be", add_special=False)
    assert tokenizer.encode("to be") == [1, *plain]
    assert tokenizer.encode("<s>to be", allow_special=True, add_special=False) == [1, *plain]
    assert 1 not in tokenizer.encode("<s>to be", add_special=False)
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    del (whole := metadata("llama"))["tokenizer.ggml.add_bos_token"]
    assert Tokenizer.from_gguf(whole, "x.gguf").encode("to be") == [1, *plain]


def test_the_space_before_a_text_is_not_part_of_it() -> None:
    """It is left out where a text begins, not where one goes on; special tokens are no text."""
    tokenizer = Tokenizer.from_gguf(metadata("llama"), "x.gguf")
    ids = tokenizer.encode("to be")
    assert tokenizer.decode(ids) == tokenizer.decode(ids, after=[1]) == "to be"
    assert tokenizer.decode(ids, after=[1, *ids]) == " to be"
    for after, text in (([], "to be"), ([1], "to be"), ([1, 300], " to be")):
        stream = tokenizer.stream(after=after)
        for _ in range(2):
            assert "".join([*map(stream.push, ids), stream.finish()]) == text
    assert tokenizer.decode([1, *ids]) == "<s> to be"
    gemma = Tokenizer.from_gguf(metadata("gemma"), "x.gguf")
    assert gemma.decode(gemma.encode(" to be")) == " to be"


def test_bytes_of_characters_come_out_whole() -> None:
    tokenizer = Tokenizer.from_gguf(metadata("llama"), "x.gguf")
    ids = tokenizer.encode("a\U0001d4b3b")
    stream = tokenizer.stream()
    assert [stream.push(i) for i in ids] == ["", "a", "", "", "", "\U0001d4b3", "b"][-len(ids) :]
    assert tokenizer.decode(ids[:-2]).endswith("a\ufffd")


def test_what_is_lacking_is_unknown() -> None:
    """Without tokens for bytes, one unknown token for several characters in a row."""
    whole = metadata("llama")
    types = whole["tokenizer.ggml.token_type"]
    assert isinstance(types, np.ndarray)
    whole["tokenizer.ggml.token_type"] = np.where(types == 6, 5, types)
    tokenizer = Tokenizer.from_gguf(whole, "x.gguf")
    ids = tokenizer.encode("\U0001d4b3\U0001d4b3to")
    assert ids == tokenizer.encode("\U0001d4b3to")
    assert ids.count(0) == 1
    assert tokenizer.encode("to") == tokenizer.encode("to\U0001d4b3")[:-1]


@pytest.mark.parametrize("name", BPE)
def test_long_texts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are cut where no token reaches across."""
    tokenizer = Tokenizer.from_gguf(metadata(name), "x.gguf")
    words = " ".join(text for text in TEXTS if "\u2581" not in text)
    texts = ["a" * 100_000, "the" * 30_000, " " * 100_000, words, words * 20, words.replace(" ", "  ") * 5]
    ids = [tokenizer.encode(text) for text in texts]
    assert list(map(tokenizer.decode, ids)) == texts
    monkeypatch.setattr(character_words, "_PART", 10**9)
    assert [tokenizer.encode(text) for text in texts] == ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, "scores must have a number for each token"),
        ({"scores": np.ones(3, np.float32)}, "scores must have a number for each token"),
    ],
)
def test_gguf_that_pygpt_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_gguf(metadata("llama", **change), "x.gguf").encode("a")


def test_model_file() -> None:
    model = read_model_file(PIECES / "gemma.model")
    assert (model.model_type, model.byte_fallback, model.add_dummy_prefix, model.charsmap) == (2, True, False, b"")
    assert len(model.pieces) == len(model.scores) == len(model.types) == 900
    assert model.pieces[:4] == ["<unk>", "<s>", "</s>", "\n"]
    assert model.types[:4] == [2, 3, 3, 4]


def test_damaged_model_files(tmp_path: Path) -> None:
    data = bytearray((PIECES / "llama.model").read_bytes())
    r = random.Random(1)
    path = tmp_path / "tokenizer.model"
    for _ in range(300):
        some = bytearray(data[: r.randrange(len(data))] if r.random() < 0.3 else data)
        for _ in range(r.randint(0, 8)):
            if some:
                some[r.randrange(len(some))] = r.randrange(256)
        path.write_bytes(some)
        try:
            assert isinstance(read_model_file(path), ModelFile)
        except TokenizerError as error:
            assert str(path) in str(error)  # noqa: PT017
