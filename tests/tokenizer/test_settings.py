"""What stands beside a vocabulary: read as transformers reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.byte_level import BYTE_LETTERS

END = "<|endoftext|>"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
VOCAB = {t: i for i, t in enumerate([*BYTE_LETTERS, "Ġa", END])}
A, SPACED_A, END_ID = VOCAB["a"], VOCAB["Ġa"], VOCAB[END]
NEW = END_ID + 1
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": END, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {END: {"id": END, "ids": [END_ID], "tokens": [END]}},
}

Folder = Callable[..., Tokenizer]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A tokenizer.json, or the two older files, with other files beside it."""

    def make(post: Any = None, *, older: bool = False, **files: Any) -> Tokenizer:
        if older:
            (tmp_path / "vocab.json").write_text(json.dumps(VOCAB), encoding="utf-8")
            (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ a\n", encoding="utf-8")
        else:
            table = {"added_tokens": [{"id": END_ID, "content": END, "special": True}], "pre_tokenizer": BYTES}
            table |= {"post_processor": post, "model": {"type": "BPE", "vocab": VOCAB, "merges": ["Ġ a"]}}
            (tmp_path / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
        for name, values in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
        tokenizer = Tokenizer.from_folder(tmp_path)
        assert tokenizer is not None
        return tokenizer

    return make


@pytest.mark.parametrize("older", [False, True])
def test_the_space_before_a_text(folder: Folder, older: bool) -> None:
    config = {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}
    tokenizer = folder(older=older, tokenizer_config=config)
    assert tokenizer.encode("a") == tokenizer.encode(" a") == [SPACED_A]
    assert tokenizer.encode(f"a{END}a", allow_special=True) == [SPACED_A, END_ID, SPACED_A]
    assert tokenizer.encode("") == []


@pytest.mark.parametrize(
    ("kind", "post", "flags", "begins"),
    [
        (None, None, {}, False),
        (None, TEMPLATE, {}, True),
        ("GPT2Tokenizer", None, {"add_bos_token": True}, False),  # transformers 4 and 5 leave tokenizer.json as it is
        ("PreTrainedTokenizerFast", TEMPLATE, {"add_bos_token": False}, True),
        ("LlamaTokenizerFast", BYTES, {"add_bos_token": True}, True),  # as DeepSeek's
        ("LlamaTokenizerFast", TEMPLATE, {"add_bos_token": False}, False),
        ("LlamaTokenizer", TEMPLATE, {}, True),
        ("GPTNeoXTokenizer", TEMPLATE, {}, False),
        ("GPTNeoXTokenizer", None, {"add_bos_token": True}, True),
    ],
)
def test_who_says_how_a_text_begins(folder: Folder, kind: str | None, post: Any, flags: Any, begins: bool) -> None:
    config = {"tokenizer_class": kind, "bos_token": END} | flags
    tokenizer = folder(post, tokenizer_config=config)
    assert tokenizer.encode("a") == [END_ID] * begins + [A]
    assert tokenizer.encode("a", add_special=False) == [A]


def test_both_ends_of_a_text(folder: Folder) -> None:
    config = {"add_bos_token": True, "add_eos_token": True}
    assert folder(older=True, tokenizer_config=config).encode("a") == [END_ID, A, END_ID]


@pytest.mark.parametrize("older", [False, True])
def test_added_tokens_json(folder: Folder, older: bool) -> None:
    """Special where special_tokens_map.json names them, and in plain text too where not."""
    table = {"<x>": NEW, "<y>": NEW + 1}
    tokenizer = folder(older=older, added_tokens=table, special_tokens_map={"sep_token": {"content": "<y>"}})
    assert tokenizer.encode("a<x>") == [A, NEW]
    assert tokenizer.special_tokens == {END: END_ID, "<y>": NEW + 1}
    assert tokenizer.encode("a<y>", allow_special=True) == [A, NEW + 1]


@pytest.mark.parametrize("older", [False, True])
def test_added_tokens_of_tokenizer_config(folder: Folder, older: bool) -> None:
    """They replace the older files, and say better than tokenizer.json how a token is found."""
    entry = {
        "content": "<x>",
        "special": False,
        "normalized": False,
        "lstrip": True,
        "rstrip": False,
        "single_word": False,
    }
    end = entry | {"content": END, "special": True, "lstrip": False, "rstrip": True}
    config = {"added_tokens_decoder": {str(NEW): entry, str(END_ID): end}, "model_max_length": 5, "errors": "replace"}
    tokenizer = folder(older=older, tokenizer_config=config, added_tokens={"<z>": NEW + 5})
    assert tokenizer.encode("a  <x>a") == [A, NEW, A]
    assert tokenizer.encode(f"{END} \na", allow_special=True) == [END_ID, A]
    assert tokenizer.n_vocab == NEW + 1


def test_ids_of_bos_and_eos_by_their_names(folder: Folder) -> None:
    tokenizer = folder(tokenizer_config={"bos_token": {"__type": "AddedToken", "content": "a"}, "eos_token": END})
    assert (tokenizer.bos_id, tokenizer.eos_id) == (A, END_ID)
    assert tokenizer.special_tokens == {END: END_ID, "a": A}  # a token of the vocabulary may be an added one too
    assert tokenizer.encode("a a") == [A, SPACED_A]
    assert tokenizer.encode("b a", allow_special=True) == [VOCAB["b"], VOCAB["Ġ"], A]
