"""Any text, any ids, streams, threads, and a million identical characters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer

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
    assert tokenizers[pre].decode(ids) == text
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
    texts = {tokenizer._bytes(VOCAB[letter]): VOCAB[letter] for letter in letters}
    ids = [texts[bytes([b])] for b in "☃🙃".encode()]
    assert [stream.push(i) for i in ids] == ["", "", "☃", "", "", "", "🙃"]
    assert stream.finish() == ""
    assert [stream.push(i) for i in ids[:2]] == ["", ""]
    assert stream.finish() == "\ufffd"
    assert stream.push(VOCAB["a"]) == "a"  # nothing is left over


def test_a_lone_surrogate_is_replaced(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["gpt2"]
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("bad", [-1, START_ID + 1, 10**9])
def test_decode_of_an_id_without_a_token(tokenizers: dict[str, Tokenizer], bad: int) -> None:
    with pytest.raises(TokenizerError, match=f"the id {bad} has no token"):
        tokenizers["gpt2"].decode([VOCAB["a"], bad])
    with pytest.raises(TokenizerError, match=f"the id {bad} has no token"):
        tokenizers["gpt2"].stream().push(bad)


def test_encode_wants_text(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(TypeError, match="text must be a str, not bytes"):
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
def test_cutting_long_runs_changes_no_id(
    tokenizers: dict[str, Tokenizer], pre: str, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cuts, made at runs of 4 instead of 65536, against no cuts at all."""
    import re

    from pygpt.tokenizer import encoding

    text = "".join(parts)
    whole = tokenizers[pre].encode(text)
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "_LONG_RUN", 4)
        patch.setattr(encoding, "_RUN", re.compile(f"[{encoding._WHITESPACE}]{{4,}}"))
        assert tokenizers[pre].encode(text) == whole


def test_an_expression_that_overflows_is_an_error(document: Maker, from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"(?:\s(?!x))+|\S+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    assert tokenizer.decode(tokenizer.encode("a  b x")) == "a  b x"
    with pytest.raises(TokenizerError, match="cannot cut up so long a run"):
        tokenizer.encode(" " * 2_000_000)


def test_text_that_an_expression_leaves_out_is_kept(document: Maker, from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    assert tokenizer.decode(tokenizer.encode("a, b\n\nc 12")) == "a, b\n\nc 12"
