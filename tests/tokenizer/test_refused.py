"""Tokenizer files that are damaged, foreign, or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"
VOCAB: dict[str, int] = json.loads((TOKENS / "vocab.json").read_text(encoding="utf-8"))
END, START = "<|endoftext|>", "<|im_start|>"

Maker = Callable[..., Any]


BYTE_FALLBACK = {"type": "BPE", "byte_fallback": True}
PREFIX = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Chars"}}, "model 'Chars' is none of BPE, Unigram"),
        ({"model": {"type": "Unigram"}}, "the key 'model.merges' is unknown"),
        ({"normalizer": {"type": "Unheard"}}, "the package tokenizers refuses it"),
        ({"model": {"vocab": []}}, "model.vocab"),
        ({"model": {"merges": {}}}, "model.merges"),
        ({"model": {"merges": ["a b c"]}}, "merge 1 is 'a b c'"),
        ({"model": {"merges": ["a b", "c"]}}, "merge 2 is 'c'"),
        ({"model": {"merges": ["a b c", "d"]}}, "merge 1 is 'a b c'"),
        ({"model": {"merges": ["q j"]}}, "gives the token 'qj'"),
        ({"model": {"vocab": VOCAB | {"ab": "5"}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"ab": True}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": -1}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": 2**40}}}, "ids must be integers"),
        ({"model": {"vocab": VOCAB | {"zzz": 5}}}, "two tokens have the same id"),
        ({"model": {"vocab": {}}}, "no tokens"),
        ({"pre_tokenizer": {"type": "Sequence"}}, "the package tokenizers refuses it"),
        ({"added_tokens": [{"id": 5000, "content": "<m>", "lstrip": 1}]}, "'<m>'.* must have a content"),
        ({"added_tokens": [{"id": 5000, "content": "<m>", "glued": True}]}, "'glued'.* may have special, normalized"),
        ({"added_tokens": [{"id": 5000}]}, "added token .* must have a content"),
        ({"added_tokens": [{"id": 5, "content": "<m>"}]}, "two tokens have the same id"),
        ({"added_tokens": [{"id": 5000, "content": "ab"}]}, "'ab' has two ids"),
        ({"unknown": 1}, "the key 'unknown' is unknown"),
        ({"version": "2.0"}, "version is '2.0'"),
        ({"model": {"dropout": 0.1}}, "model.dropout is 0.1"),
        ({"model": {"glue": True}}, "'model.glue' is unknown"),
        ({"model": {"merges": [["a"]]}}, "merge 1 is 'a'"),
        ({"model": {"merges": [["a", 5]]}}, "entry that is no pair"),
        ({"model": {"unk_token": 5}}, "unk_token is 5"),
        ({"post_processor": {"type": "Unheard"}}, "post_processor 'Unheard'"),
        ({"post_processor": {"type": "TemplateProcessing", "single": []}}, "TemplateProcessing is damaged"),
        ({"post_processor": {"type": "BertProcessing", "cls": ["x", 5000], "sep": ["x", 1]}}, "the id 5000, which no"),
        ({"added_tokens": [{"content": "<m>"}]}, "ids must be integers"),
        ({"added_tokens": 3}, "added_tokens is not a list"),
    ],
)
def test_tokenizer_json_that_pygpt_refuses(
    document: Maker, from_json: Maker, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        from_json(document(**change)).encode("a")
    assert "tokenizer.json" in str(caught.value)


def test_a_bad_expression(document: Maker, from_json: Maker) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"(unclosed"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    with pytest.raises(TokenizerError, match="refuses it: Oniguruma"):
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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, "tokenizer_class 'LlamaTokenizer'"),
        ({"tokenizer_class": 5}, "tokenizer_class is 5"),
        ({"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}, "add_prefix_space is True"),
        ({"add_prefix_space": "yes"}, "add_prefix_space is 'yes'"),
        ({"add_bos_token": True, "bos_token": "<s>"}, "add_bos_token is true, but no token"),
        ({"do_lower_case": True}, "do_lower_case is True"),
        ({"errors": "ignore"}, "errors is 'ignore'"),
        ({"glue": 1}, "the key 'glue' is unknown"),
        ({"bos_token": 5}, "bos_token is 5"),
        ({"added_tokens_decoder": {"x": {"content": "y"}}}, "added_tokens_decoder is not"),
        ({"added_tokens_decoder": {"5000": "y"}}, "added token 'y'"),
    ],
)
def test_settings_beside_vocab_and_merges(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((TOKENS / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match=rf"tokenizer_config\.json: .*{message}"):
        tokenizer.encode("a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "bert"}, "model is 'bert', but must be one of gpt2, llama, t5"),
        ({"pre": "unheard"}, "pre 'unheard' is none of"),
        ({"tokens": 5}, "must be an array of strings"),
        ({"merges": None}, "must be an array of strings"),
        ({"token_type": np.ones(3, np.int32)}, "3 tokenizer.ggml.token_type for"),
        ({"tokens": [b"\xff"] * (len(VOCAB) + 2)}, r"tokens\[0\] is b'.xff', not UTF-8"),
        ({"tokens": [5] * (len(VOCAB) + 2)}, "must be an array of strings"),
        ({"add_bos_token": True}, "add_bos_token is true, but there is no"),
        ({"add_eos_token": 1}, "add_eos_token is 1"),
        ({"bos_token_id": 10**6}, "bos_token_id is 1000000"),
        ({"glue": 1}, "'tokenizer.ggml.glue' is unknown"),
    ],
)
def test_gguf_tokenizer_that_pygpt_refuses(gguf_metadata: Maker, change: dict[str, object], message: str) -> None:
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
    assert tokenizer.decode([299]) == ""


def test_tiktokens_unknown_name() -> None:
    with pytest.raises(TokenizerError, match="'nonsense' is none of tiktoken's encodings"):
        Tokenizer("nonsense").encode("a")


def test_tiktokens_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tiktoken

    def no_network(name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tiktoken, "get_encoding", no_network)
    with pytest.raises(TokenizerError, match="has not cached its encoding 'gpt2' and cannot download it: no route"):
        Tokenizer("gpt2").encode("a")
