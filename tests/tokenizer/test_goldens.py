"""The tokenizer against the originals, from every layout it is read from and written to."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"
GOLDENS: dict[str, Any] = json.loads((TOKENS / "goldens.json").read_text(encoding="utf-8"))
VOCAB: dict[str, int] = json.loads((TOKENS / "vocab.json").read_text(encoding="utf-8"))
MERGES = (TOKENS / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
END, START = "<|endoftext|>", "<|im_start|>"
END_ID, START_ID = len(VOCAB), len(VOCAB) + 1
GGUF_PRE = {"gpt2": "gpt-2", "smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}
SHARED_BPE = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpt2-bpe"

Maker = Callable[..., Any]


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_tokenizer_json_equals_original(check_goldens: Maker, document: Maker, from_json: Maker, pre: str) -> None:
    check_goldens(from_json(document(pre)), pre)


@pytest.mark.parametrize("pre", sorted({*GGUF_PRE} - {"qwen2"}))
def test_gguf_equals_original(check_goldens: Maker, gguf_metadata: Maker, pre: str) -> None:
    check_goldens(Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf"), pre)


def test_gguf_of_qwen2_is_normalised(gguf_metadata: Maker, document: Maker, from_json: Maker) -> None:
    """As Qwen2's own tokenizer.json says; GGUF says no more than "qwen2"."""
    gguf = Tokenizer.from_gguf(gguf_metadata("qwen2"), "x.gguf")
    original = from_json(document("qwen2", normalizer={"type": "NFC"}))
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"]["qwen2"], strict=True):
        assert gguf.encode(text) == original.encode(text)
        if unicodedata.is_normalized("NFC", text):
            assert gguf.encode(text) == ids


def test_vocab_and_merges_equal_original(check_goldens: Maker) -> None:
    tokenizer = Tokenizer.from_folder(TOKENS)
    assert tokenizer is not None
    check_goldens(tokenizer, "gpt2")


def test_gpt2s_own_vocabulary_equals_original(check_goldens: Maker) -> None:
    if not SHARED_BPE.is_dir():
        pytest.skip("GPT-2's vocabulary is not at ../shared/data/gpt2-bpe")
    tokenizer = Tokenizer.from_folder(SHARED_BPE)
    assert tokenizer is not None
    check_goldens(tokenizer, "gpt2-vocabulary")
    assert (tokenizer.n_vocab, tokenizer.eos_id, tokenizer.special_tokens) == (50257, 50256, {END: 50256})


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_ids_that_are_not_merge_ranks(document: Maker, from_json: Maker, pre: str) -> None:
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


def test_merges_may_be_pairs(check_goldens: Maker, document: Maker, from_json: Maker) -> None:
    check_goldens(from_json(document(model={"merges": [m.split() for m in MERGES]})), "gpt2")


def test_special_looking_text_is_text_unless_allowed(document: Maker, from_json: Maker) -> None:
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


def test_added_tokens_that_are_not_special_always_match(document: Maker, from_json: Maker) -> None:
    added = [{"id": END_ID, "content": "<think>", "special": False}]
    tokenizer = from_json(document(added_tokens=added))
    assert tokenizer.encode("a<think>b") == [VOCAB["a"], END_ID, VOCAB["b"]]
    assert tokenizer.special_tokens == {}


def test_nfc_is_applied_where_the_file_says_so(document: Maker, from_json: Maker) -> None:
    tokenizer = from_json(document(normalizer={"type": "NFC"}))
    assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")


def test_a_whole_piece_that_no_merge_gives(document: Maker, from_json: Maker) -> None:
    """With ignore_merges (Llama 3) a token of the vocabulary is used whole even if no merge leads to it."""
    vocab = VOCAB | {"Ġqxqxq": END_ID + 5}
    split = document(model={"vocab": vocab, "ignore_merges": False})
    assert END_ID + 5 not in from_json(split).encode(" qxqxq")
    whole = document(model={"vocab": vocab, "ignore_merges": True})
    assert from_json(whole).encode(" qxqxq") == [END_ID + 5]


def test_missing_bytes(document: Maker, from_json: Maker) -> None:
    """A vocabulary may lack bytes: they become its unknown token, or are an error where it has none."""
    vocab = {t: i for t, i in VOCAB.items() if t != "~"}
    merges = [m for m in MERGES if "~" not in m]
    unknown = from_json(document(model={"vocab": vocab, "merges": merges, "unk_token": END}))
    assert unknown.encode("a~b") == [VOCAB["a"], END_ID, VOCAB["b"]]
    assert unknown.encode("ab") == from_json(document()).encode("ab")
    with pytest.raises(TokenizerError, match=r"no token for the byte b'~'"):
        from_json(document(model={"vocab": vocab, "merges": merges})).encode("a~b")


def test_bos_and_eos(gguf_metadata: Maker, document: Maker, from_json: Maker) -> None:
    tokenizer = from_json(document(), bos_id=START_ID, eos_id=END_ID)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (START_ID, END_ID)
    gguf = Tokenizer.from_gguf(gguf_metadata(bos_token_id=START_ID), "x.gguf")
    assert (gguf.bos_id, gguf.eos_id, gguf.n_vocab) == (START_ID, END_ID, END_ID + 2)


def test_special_tokens_beside_vocab_json(check_goldens: Maker, tmp_path: Path) -> None:
    """added_tokens.json and tokenizer_config.json add to the two old files."""
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB | {END: END_ID}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\r\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({START: START_ID}), encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": [START]}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    assert tokenizer.special_tokens == {END: END_ID, START: START_ID}
    assert tokenizer.eos_id == END_ID
    check_goldens(tokenizer, "gpt2")
    # tokenizer_config.json's list replaces the two older files.
    config = {"added_tokens_decoder": {str(START_ID + 1): {"content": "<|im_end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    assert tokenizer.special_tokens == {END: END_ID, "<|im_end|>": START_ID + 1}
    assert tokenizer.eos_id == END_ID
    check_goldens(tokenizer, "gpt2")


def test_no_files_no_tokenizer(tmp_path: Path) -> None:
    assert Tokenizer.from_folder(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path) is None


@pytest.mark.parametrize("pre", sorted(GGUF_PRE))
def test_saved_tokenizer_reads_back(gguf_metadata: Maker, tmp_path: Path, pre: str) -> None:
    Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf").save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again is not None
    for text in GOLDENS["texts"]:
        assert again.encode(text) == Tokenizer.from_gguf(gguf_metadata(pre), "x.gguf").encode(text)
    assert again.special_tokens == {END: END_ID, START: START_ID}
    tokenizers = pytest.importorskip("tokenizers")
    original = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"][pre], strict=True):
        if "<|" not in text and unicodedata.is_normalized("NFC", text):  # which that library takes for special
            assert original.encode(text).ids == ids


def test_tiktokens_encodings_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="its name is all it takes"):
        Tokenizer("gpt2").save(tmp_path)
