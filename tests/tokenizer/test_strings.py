"""Any text, any ids, streams, threads, and a million identical characters."""

from __future__ import annotations

import copy
import json
import pickle
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.byte_level import BYTE_LETTERS

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"
GOLDENS: dict[str, Any] = json.loads((TOKENS / "goldens.json").read_text(encoding="utf-8"))
VOCAB: dict[str, int] = json.loads((TOKENS / "vocab.json").read_text(encoding="utf-8"))
END_ID, START_ID = len(VOCAB), len(VOCAB) + 1
GGUF_PRE = {"gpt2": "gpt-2", "smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}

Maker = Callable[..., Any]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), pre=st.sampled_from(sorted(GGUF_PRE)), allow=st.booleans())
def test_round_trip(tokenizers: dict[str, Tokenizer], text: str, pre: str, allow: bool) -> None:
    ids = tokenizers[pre].encode(text, allow_special=allow)
    assert tokenizers[pre].decode(ids) == (unicodedata.normalize("NFC", text) if pre == "qwen2" else text)
    assert allow or not {END_ID, START_ID} & set(ids)


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(0, START_ID)))
def test_stream_equals_decode(tokenizers: dict[str, Tokenizer], ids: list[int]) -> None:
    """Any ids, so any bytes: most of these lists are not UTF-8."""
    stream = tokenizers["gpt2"].stream()
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.finish() == tokenizers["gpt2"].decode(ids)


def test_stream_gives_whole_characters(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["gpt2"]
    stream = tokenizer.stream()
    bytes_of_snowman = [i for byte in "☃🙃".encode() for i in [tokenizer.encode(chr(byte))[0]] if byte < 128]
    assert bytes_of_snowman == []  # all beyond ASCII, so they need the byte tokens below
    letters = [token for token, i in sorted(VOCAB.items(), key=lambda item: item[1]) if len(token) == 1]
    texts = {bytes([BYTE_LETTERS.index(letter)]): VOCAB[letter] for letter in letters}
    ids = [texts[bytes([b])] for b in "☃🙃".encode()]
    assert [stream.push(i) for i in ids] == ["", "", "☃", "", "", "", "🙃"]
    assert stream.finish() == ""
    assert [stream.push(i) for i in ids[:2]] == ["", ""]
    assert stream.finish() == "\ufffd"
    assert stream.push(VOCAB["a"]) == "a"  # nothing is left over


def test_a_lone_surrogate_is_replaced(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["gpt2"]
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("none", [START_ID + 1, 10**9])
def test_an_id_without_a_token_has_no_text(tokenizers: dict[str, Tokenizer], none: int) -> None:
    """A model whose vocabulary is padded may draw one, and its completion must still have a text."""
    assert tokenizers["gpt2"].decode([VOCAB["a"], none, VOCAB["b"]]) == "ab"
    assert tokenizers["gpt2"].stream().push(none) == ""


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (-1, ValueError, "ids must be 0 or more, not -1"),
        (1.0, TypeError, "ids must be integers"),
        ("1", TypeError, "ids must be integers"),
        (None, TypeError, "ids must be integers"),
    ],
)
def test_ids_that_cannot_be(tokenizers: dict[str, Tokenizer], bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tokenizers["gpt2"].decode([VOCAB["a"], bad])
    with pytest.raises(error, match=message):
        tokenizers["gpt2"].stream().push(bad)
    with pytest.raises(TypeError, match="ids must be integers"):
        tokenizers["gpt2"].decode(5)  # type: ignore[arg-type]


def test_wrong_types(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Tokenizer(5),  # type: ignore[arg-type]
        lambda: Tokenizer.from_folder(5),  # type: ignore[arg-type]
        lambda: Tokenizer.from_folder(TOKENS, bos_id="1"),  # type: ignore[arg-type]
        lambda: Tokenizer.from_gguf(5, "x"),  # type: ignore[arg-type]
        lambda: tokenizers["gpt2"].save(None),  # type: ignore[arg-type]
        lambda: tokenizers["gpt2"].with_special(["<a>"]),  # type: ignore[arg-type]
        lambda: tokenizers["gpt2"].with_special({5: 5}),  # type: ignore[dict-item]
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"must be|not"):
            call()


def test_paths_may_be_str(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(str(TOKENS))
    assert tokenizer is not None
    tokenizer.save(str(tmp_path))
    again = Tokenizer.from_folder(str(tmp_path))
    assert again is not None
    assert again.encode("Hello") == tokenizer.encode("Hello")


def test_repr_and_pickle(tokenizers: dict[str, Tokenizer]) -> None:
    folder = Tokenizer.from_folder(TOKENS)
    assert folder is not None
    assert repr(folder) == f"<pygpt.Tokenizer of {TOKENS}>"  # nothing is read for it
    for tokenizer in (folder, *tokenizers.values()):
        again = pickle.loads(pickle.dumps(tokenizer))
        for text in GOLDENS["texts"]:
            assert again.encode(text) == copy.deepcopy(tokenizer).encode(text) == tokenizer.encode(text)
        assert (again.n_vocab, again.eos_id) == (tokenizer.n_vocab, tokenizer.eos_id)
        assert f"n_vocab {tokenizer.n_vocab}" in repr(tokenizer)
    assert repr(pickle.loads(pickle.dumps(Tokenizer("gpt2")))) == "Tokenizer('gpt2')"


def test_encode_wants_text(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(TypeError, match="text must be of type str, not bytes"):
        tokenizers["gpt2"].encode(b"bytes")  # type: ignore[arg-type]


def test_many_threads_build_once(gguf_metadata: Maker) -> None:
    calls = []
    made = Tokenizer.from_gguf(gguf_metadata(), "x.gguf")

    def load() -> Any:
        calls.append(None)
        time.sleep(0.02)  # so that the others arrive meanwhile
        return made._load()  # type: ignore[operator]

    tokenizer = Tokenizer(load)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(tokenizer.encode, ["Hello, world!"] * 16))
    assert results == [GOLDENS["ids"]["gpt2"][5]] * 16
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("run", "pre", "ends"),
    [
        *((run, "gpt2", ("", "")) for run in ("a", "1", "!", "é", "'", " ", "\n")),
        *((run, pre, ("x", "7")) for run in (" ", "\n", "\u3000") for pre in sorted(GGUF_PRE)),
        *((run, "llama3", ("!", "y")) for run in (" ", "\n", " \n")),
    ],
)
def test_a_million_characters(
    tokenizers: dict[str, Tokenizer], run: str, pre: str, ends: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """No crash, no loss. tiktoken's expressions would overflow their stack on most of the whitespace."""
    text = ends[0] + run * (1_000_000 // len(run)) + ends[1]
    tokenizer = tokenizers[pre]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.one_of(st.text(max_size=3), st.text(" \n\r\t\u3000", min_size=4, max_size=9), st.sampled_from("a1!'é")),
        max_size=8,
    )
)
def test_piece_by_piece_changes_no_id(tokenizers: dict[str, Tokenizer], pre: str, parts: list[str]) -> None:
    """What long runs of whitespace go through, against tiktoken's engine, for characters that both know."""
    text = "".join(c for part in parts for c in part if unicodedata.category(c) not in ("Cn", "Cs"))
    words: Any = tokenizers[pre]._state.words
    assert words._by_pieces(text) == words(text)


@pytest.mark.parametrize("expression", [r"(?:\s(?!x))+|\S+", r"\p{L}+|[^\s\p{L}]+|\s+(?!\S)|\s+", r"\S+"])
def test_no_expression_overflows(
    document: Maker, from_json: Maker, expression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    text = "a  b x" + " " * 1_100_000 + "y"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert capfd.readouterr().err == ""


def test_text_that_an_expression_leaves_out_is_kept(document: Maker, from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    assert tokenizer.decode(tokenizer.encode("a, b\n\nc 12")) == "a, b\n\nc 12"
