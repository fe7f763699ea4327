"""The tokenizer against goldens of the originals, and on input that is broken, huge or hostile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer

TOKENS = Path(__file__).resolve().parent / "data" / "tokens"
SHARED_BPE = Path(__file__).resolve().parents[2] / "shared" / "data" / "gpt2-bpe"
GOLDENS: dict[str, Any] = json.loads((TOKENS / "goldens.json").read_text(encoding="utf-8"))
VOCAB: dict[str, int] = json.loads((TOKENS / "vocab.json").read_text(encoding="utf-8"))
MERGES = (TOKENS / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
END, START = "<|endoftext|>", "<|im_start|>"
END_ID, START_ID = len(VOCAB), len(VOCAB) + 1
GGUF_PRE = {"gpt2": "gpt-2", "smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}

Document = dict[str, Any]
Maker = Callable[..., Tokenizer]


def document(pre: str = "gpt2", **changes: Any) -> Document:
    """A tokenizer.json with the small vocabulary, one of the originals' pre-tokenizers and two special tokens."""
    added = [
        {"id": i, "content": t, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        for t, i in ((END, END_ID), (START, START_ID))
    ]
    model = {"type": "BPE", "vocab": dict(VOCAB), "merges": list(MERGES), "unk_token": None} | changes.pop("model", {})
    whole = {"added_tokens": added, "normalizer": None, "pre_tokenizer": GOLDENS["pre_tokenizers"][pre], "model": model}
    return whole | changes


@pytest.fixture
def from_json(tmp_path: Path) -> Maker:
    """Writes a tokenizer.json and reads it back."""

    def make(whole: Document, **ids: int) -> Tokenizer:
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
        tokenizer = Tokenizer.from_folder(tmp_path, **ids)
        assert tokenizer is not None
        return tokenizer

    return make


def gguf_metadata(pre: str = "gpt2", **changes: object) -> dict[str, object]:
    """The same vocabulary as a GGUF file's metadata holds it."""
    tokens = [*sorted(VOCAB, key=VOCAB.__getitem__), END, START]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": GGUF_PRE.get(pre, pre),
        "tokenizer.ggml.tokens": [t.encode() for t in tokens],
        "tokenizer.ggml.token_type": np.array([1] * len(VOCAB) + [3, 3], np.int32),
        "tokenizer.ggml.merges": [m.encode() for m in MERGES],
        "tokenizer.ggml.eos_token_id": END_ID,
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def check_goldens(tokenizer: Tokenizer, name: str) -> None:
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"][name], strict=True):
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_tokenizer_json_equals_original(from_json: Maker, pre: str) -> None:
    check_goldens(from_json(document(pre)), pre)


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_gguf_equals_original(pre: str) -> None:
    check_goldens(Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf"), pre)


def test_vocab_and_merges_equal_original() -> None:
    tokenizer = Tokenizer.from_folder(TOKENS)
    assert tokenizer is not None
    check_goldens(tokenizer, "gpt2")


def test_gpt2s_own_vocabulary_equals_original() -> None:
    if not SHARED_BPE.is_dir():
        pytest.skip("GPT-2's vocabulary is not at ../shared/data/gpt2-bpe")
    tokenizer = Tokenizer.from_folder(SHARED_BPE)
    assert tokenizer is not None
    check_goldens(tokenizer, "gpt2-vocabulary")
    assert (tokenizer.n_vocab, tokenizer.eos_id, tokenizer.special_tokens) == (50257, 50256, {END: 50256})


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_ids_that_are_not_merge_ranks(from_json: Maker, pre: str) -> None:
    """The same merges under shuffled ids, with a gap, must give the shuffled ids."""
    order = np.random.default_rng(0).permutation(len(VOCAB)) + 7
    vocab = {token: int(order[i]) for token, i in VOCAB.items()}
    added = [{"id": 3, "content": END, "special": True}]
    tokenizer = from_json(document(pre, model={"vocab": vocab}, added_tokens=added))
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"][pre], strict=True):
        assert tokenizer.encode(text) == [order[i] for i in ids]
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("a" + END, allow_special=True) == [vocab["a"], 3]
    assert tokenizer.n_vocab == len(VOCAB) + 7


def test_merges_may_be_pairs(from_json: Maker) -> None:
    check_goldens(from_json(document(model={"merges": [m.split() for m in MERGES]})), "gpt2")


def test_special_looking_text_is_text_unless_allowed(from_json: Maker) -> None:
    tokenizer = from_json(document())
    text = f"a{END}b{START}"
    plain = tokenizer.encode(text)
    assert END_ID not in plain
    assert START_ID not in plain
    assert tokenizer.decode(plain) == text
    special = tokenizer.encode(text, allow_special=True)
    assert special == [VOCAB["a"], END_ID, VOCAB["b"], START_ID]
    assert tokenizer.decode(special) == text
    assert tokenizer.special_tokens == {END: END_ID, START: START_ID}


def test_added_tokens_that_are_not_special_always_match(from_json: Maker) -> None:
    added = [{"id": END_ID, "content": "<think>", "special": False}]
    tokenizer = from_json(document(added_tokens=added))
    assert tokenizer.encode("a<think>b") == [VOCAB["a"], END_ID, VOCAB["b"]]
    assert tokenizer.special_tokens == {}


def test_nfc_is_applied_where_the_file_says_so(from_json: Maker) -> None:
    tokenizer = from_json(document(normalizer={"type": "NFC"}))
    assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")


def test_a_whole_piece_that_no_merge_gives(from_json: Maker) -> None:
    """With ignore_merges (Llama 3) a token of the vocabulary is used whole even if no merge leads to it."""
    vocab = VOCAB | {"Ġqxqxq": END_ID + 5}
    split = document(model={"vocab": vocab, "ignore_merges": False})
    assert END_ID + 5 not in from_json(split).encode(" qxqxq")
    whole = document(model={"vocab": vocab, "ignore_merges": True})
    assert from_json(whole).encode(" qxqxq") == [END_ID + 5]


def test_missing_bytes(from_json: Maker) -> None:
    """A vocabulary may lack bytes: they become its unknown token, or are an error where it has none."""
    vocab = {t: i for t, i in VOCAB.items() if t != "~"}
    merges = [m for m in MERGES if "~" not in m]
    unknown = from_json(document(model={"vocab": vocab, "merges": merges, "unk_token": END}))
    assert unknown.encode("a~b") == [VOCAB["a"], END_ID, VOCAB["b"]]
    assert unknown.encode("ab") == from_json(document()).encode("ab")
    with pytest.raises(TokenizerError, match=r"no token for the byte b'~'"):
        from_json(document(model={"vocab": vocab, "merges": merges})).encode("a~b")


def test_bos_and_eos(from_json: Maker) -> None:
    tokenizer = from_json(document(), bos_id=START_ID, eos_id=END_ID)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (START_ID, END_ID)
    gguf = Tokenizer.from_gguf(gguf_metadata(bos_token_id=START_ID), "x.gguf")
    assert (gguf.bos_id, gguf.eos_id, gguf.n_vocab) == (START_ID, END_ID, END_ID + 2)


def test_special_tokens_beside_vocab_json(tmp_path: Path) -> None:
    """added_tokens.json and tokenizer_config.json add to the two old files."""
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB | {END: END_ID}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\r\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({START: START_ID}), encoding="utf-8")
    config = {"added_tokens_decoder": {str(START_ID + 1): {"content": "<|im_end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    assert tokenizer.special_tokens == {END: END_ID, START: START_ID, "<|im_end|>": START_ID + 1}
    assert tokenizer.eos_id == END_ID
    check_goldens(tokenizer, "gpt2")


def test_no_files_no_tokenizer(tmp_path: Path) -> None:
    assert Tokenizer.from_folder(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path) is None


# Strings, streams, threads


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {pre: Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf") for pre in GGUF_PRE}


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


def test_many_threads_build_once() -> None:
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


# A million identical characters


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

    from pygpt import _encoding

    text = "".join(parts)
    whole = tokenizers[pre].encode(text)
    with monkeypatch.context() as patch:
        patch.setattr(_encoding, "_LONG_RUN", 4)
        patch.setattr(_encoding, "_RUN", re.compile(f"[{_encoding._WHITESPACE}]{{4,}}"))
        assert tokenizers[pre].encode(text) == whole


def test_an_expression_that_overflows_is_an_error(from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"(?:\s(?!x))+|\S+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    assert tokenizer.decode(tokenizer.encode("a  b x")) == "a  b x"
    with pytest.raises(TokenizerError, match="cannot cut up so long a run"):
        tokenizer.encode(" " * 2_000_000)


def test_text_that_an_expression_leaves_out_is_kept(from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    tokenizer = from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]}))
    assert tokenizer.decode(tokenizer.encode("a, b\n\nc 12")) == "a, b\n\nc 12"


# Damaged and foreign files

BYTE_FALLBACK = {"type": "BPE", "byte_fallback": True}
PREFIX = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordPiece"}}, "'WordPiece' is not byte-level BPE"),
        ({"model": {"type": "Unigram"}}, "'Unigram' is not byte-level BPE"),
        ({"model": BYTE_FALLBACK}, "not byte-level BPE"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix is '</w>'"),
        ({"model": {"vocab": []}}, "model.vocab"),
        ({"model": {"merges": {}}}, "model.merges"),
        ({"model": {"merges": ["a b c"]}}, "merge 1 is 'a b c'"),
        ({"model": {"merges": ["a b", "c"]}}, "merge 2 is 'c'"),
        ({"model": {"merges": ["a b c", "d"]}}, "merge 1 is 'a b c'"),
        ({"model": {"merges": ["q j"]}}, "gives the token 'qj'"),
        ({"model": {"vocab": VOCAB | {"ab c": 5000}}}, "'ab c' is not spelled in bytes"),
        ({"model": {"vocab": VOCAB | {"日": 5000}}}, "'日' is not spelled in bytes"),
        ({"model": {"vocab": VOCAB | {"🙂": 5000}}}, "'🙂' is not spelled in bytes"),
        ({"model": {"vocab": VOCAB | {"ab": "5"}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"ab": True}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": -1}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": 2**40}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": 5}}}, "two tokens have the same id"),
        ({"model": {"vocab": {}}}, "no tokens"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer"),
        ({"pre_tokenizer": PREFIX}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "Sequence"}}, "pre_tokenizer"),
        ({"added_tokens": [{"id": 5000, "content": "<m>", "lstrip": True}]}, "'<m>' needs single_word"),
        ({"added_tokens": [{"id": 5000}]}, "added token None"),
        ({"added_tokens": [{"content": "<m>"}]}, "ids must be integers"),
        ({"added_tokens": 3}, "added_tokens is not a list"),
    ],
)
def test_tokenizer_json_that_pygpt_refuses(from_json: Maker, change: Document, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        from_json(document(**change)).encode("a")
    assert "tokenizer.json" in str(caught.value)


def test_a_bad_expression(from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"(unclosed"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    with pytest.raises(TokenizerError, match="refuses the expression"):
        from_json(document(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]})).encode("a")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000, "\ud800"])
def test_tokenizer_json_that_is_not_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: not"):
        tokenizer.encode("a")


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((TOKENS / name).read_bytes())
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match=r"merges\.txt: cannot be read"):
        tokenizer.encode("a")


@pytest.mark.parametrize("config", [{"tokenizer_class": "LlamaTokenizer"}, {"add_prefix_space": True}])
def test_vocab_and_merges_of_another_class(tmp_path: Path, config: Document) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((TOKENS / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: tokenizer_class"):
        tokenizer.encode("a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "llama"}, "'llama' is not byte-level BPE"),
        ({"pre": "deepseek-llm"}, "pre 'deepseek-llm' is none of"),
        ({"tokens": 5}, "must be arrays of strings"),
        ({"merges": None}, "must be arrays of strings"),
        ({"token_type": np.ones(3, np.int32)}, "3 tokenizer.ggml.token_type for"),
        ({"tokens": [b"\xff"] * (len(VOCAB) + 2)}, "not UTF-8"),
    ],
)
def test_gguf_tokenizer_that_pygpt_refuses(change: dict[str, object], message: str) -> None:
    tokenizer = Tokenizer.from_gguf(gguf_metadata(**change), "x.gguf")
    with pytest.raises(TokenizerError, match=message) as caught:
        tokenizer.encode("a")
    assert "x.gguf" in str(caught.value)


def test_tiktokens_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 300}
    small = tiktoken.Encoding("small", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={END: 400})
    monkeypatch.setattr(tiktoken, "get_encoding", {"small": small}.__getitem__)
    tokenizer = Tokenizer("small")
    assert tokenizer.encode(f"cab{END}", allow_special=True) == [99, 300, 400]
    assert tokenizer.decode([99, 300, 400]) == f"cab{END}"
    assert (tokenizer.n_vocab, tokenizer.eos_id, tokenizer.special_tokens) == (401, 400, {END: 400})
    with pytest.raises(TokenizerError, match="the id 299 has no token"):
        tokenizer.decode([299])


def test_tiktokens_unknown_name() -> None:
    with pytest.raises(TokenizerError, match="'nonsense' is none of tiktoken's encodings"):
        Tokenizer("nonsense").encode("a")


def test_tiktokens_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tiktoken.registry

    def no_network(name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tiktoken, "get_encoding", no_network)
    with pytest.raises(TokenizerError, match="has not cached its encoding 'gpt2' and cannot download it: no route"):
        Tokenizer("gpt2").encode("a")


# Saving


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_saved_tokenizer_reads_back(tmp_path: Path, pre: str) -> None:
    Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf").save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again is not None
    check_goldens(again, pre)
    assert again.special_tokens == {END: END_ID, START: START_ID}
    tokenizers = pytest.importorskip("tokenizers")
    original = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"][pre], strict=True):
        if "<|" not in text:  # which that library takes for special tokens in any text
            assert original.encode(text).ids == ids


def test_tiktokens_encodings_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="its name is all it takes"):
        Tokenizer("gpt2").save(tmp_path)
