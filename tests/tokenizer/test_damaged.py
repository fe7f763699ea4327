"""Files with anything in place of any value: read, or a TokenizerError."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer, model_file
from pygpt.tokenizer.document import BYTES, FROM_SPACE, PREPEND, STRIP, TO_SPACE
from pygpt.tokenizer.pieces import of_model

JUNK: tuple[Any, ...] = (None, True, -1, 1.5, 2**70, "", "x", "\ud800", [], [[]], [None], {}, {"x": 1}, {"type": []})
FLAGS = dict.fromkeys(("special", "normalized", "single_word", "lstrip", "rstrip"), False)
PIECE = {"SpecialToken": {"id": "b", "type_id": 0}}
WHOLE: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [{"id": 3, "content": "<x>"} | FLAGS],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "Split", "pattern": {"Regex": "a+|b"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ],
    },
    "post_processor": {
        "type": "Sequence",
        "processors": [
            {
                "type": "TemplateProcessing",
                "single": [PIECE, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"b": {"id": "b", "ids": [1], "tokens": ["b"]}},
            },
            {"type": "RobertaProcessing", "cls": ["a", 0], "sep": ["b", 1]},
        ],
    },
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}]},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "unk_token": "a"},
}
CONFIG: dict[str, Any] = {
    "tokenizer_class": "LlamaTokenizerFast",
    "bos_token": {"content": "a"},
    "additional_special_tokens": ["b"],
    "extra_special_tokens": {"x_token": "b"},
    "added_tokens_decoder": {"3": {"content": "<x>"} | FLAGS},
    "add_bos_token": True,
    "errors": "replace",
}
GGUF: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [b"a", b"b", b"ab"],
    "tokenizer.ggml.merges": [b"a b"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.unknown_token_id": 0,
}


PIECES: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [b"<unk>", b"<s>", b"a", b"b", b"ab", b"<0x41>"],
    "tokenizer.ggml.scores": np.array([0, 0, -1, -2, -3, 0], np.float32),
    "tokenizer.ggml.token_type": np.array([2, 3, 1, 1, 1, 6], np.int32),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.add_space_prefix": False,
    "tokenizer.ggml.precompiled_charsmap": np.zeros(0, np.uint8),
}
CHARACTERS = WHOLE | {
    "normalizer": {"type": "Sequence", "normalizers": [PREPEND, TO_SPACE]},
    "pre_tokenizer": None,
    "decoder": {"type": "Sequence", "decoders": [FROM_SPACE, *BYTES, STRIP]},
    "model": WHOLE["model"] | {"byte_fallback": True, "fuse_unk": True},
}
UNIGRAM = CHARACTERS | {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0], ["b", -2.0], ["ab", -2.5]]}}

FILES = ("document", "characters", "unigram", "config", "map", "added")
METADATA = {"gguf": GGUF, "llama": PIECES, "t5": PIECES | {"tokenizer.ggml.model": "t5"}}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each table or list with each of its keys."""
    for key, inside in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inside, (dict, list)):
            yield from places(inside)


def damaged(value: Any, r: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(r.choice((1, 1, 2))):
        table, key = r.choice(list(places(value)))
        table[key] = copy.deepcopy(r.choice(JUNK))
    return value


def use(make: Callable[[], Tokenizer | None]) -> None:
    try:
        tokenizer = make()
        assert tokenizer is not None
        tokenizer.decode(tokenizer.encode("ab 1<x>é", allow_special=True))
    except TokenizerError:
        pass


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**64), which=st.sampled_from([*FILES, *METADATA]))
def test_anything_anywhere(tmp_path_factory: pytest.TempPathFactory, seed: int, which: str) -> None:
    r = random.Random(seed)
    if which in METADATA:
        metadata = damaged(METADATA[which], r)
        use(lambda: Tokenizer.from_gguf(metadata, "x.gguf"))
        return
    folder = tmp_path_factory.getbasetemp() / f"damaged-{which}"
    folder.mkdir(exist_ok=True)
    document = {"characters": CHARACTERS, "unigram": UNIGRAM}.get(which, WHOLE)
    whole = {"tokenizer.json": document, "tokenizer_config.json": CONFIG}
    if which == "map":
        whole = {
            "tokenizer.json": WHOLE,
            "special_tokens_map.json": {"bos_token": "a", "additional_special_tokens": ["b"]},
        }
    elif which == "added":
        whole = {"tokenizer.json": WHOLE, "added_tokens.json": {"<x>": 3, "<y>": 4}}
    target = list(whole)[-1] if which in ("config", "map", "added") else "tokenizer.json"
    for name, values in whole.items():
        (folder / name).write_text(json.dumps(damaged(values, r) if name == target else values))
    use(lambda: Tokenizer.from_folder(folder))


@pytest.mark.parametrize("kind", [model_file.BPE, model_file.UNIGRAM])
def test_pieces_that_no_model_has(kind: int) -> None:
    def read(unk_id: int, piece: str) -> None:
        pieces = ["<unk>", piece]
        of_model(
            model_file.ModelFile(pieces, [0.0, -1.0], [2, 1], kind, unk_id=unk_id), {"source": "m", "bos_id": None}
        )

    for unk_id in (-5, 2, 10**9):
        with pytest.raises(TokenizerError, match="m: the unknown token is"):
            read(unk_id, "a")
    with pytest.raises(TokenizerError, match="m: a piece has more than 4096 characters"):
        read(0, "a" * 10**6)


def test_a_piece_that_would_end_the_process(tmp_path: Path) -> None:
    vocab = [["<unk>", 0.0], ["a" * 10**6, -1.0]]
    table = {"version": "1.0", "added_tokens": [], "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(TokenizerError, match="a piece of Unigram has more than 4096 characters"):
        Tokenizer.from_folder(tmp_path).encode("a")  # type: ignore[union-attr]
