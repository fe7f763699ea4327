"""A small vocabulary in the layouts that tokenizers are read from, and goldens of the originals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt.tokenizer import Tokenizer

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"
GOLDENS: dict[str, Any] = json.loads((TOKENS / "goldens.json").read_text(encoding="utf-8"))
VOCAB: dict[str, int] = json.loads((TOKENS / "vocab.json").read_text(encoding="utf-8"))
MERGES = (TOKENS / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
END, START = "<|endoftext|>", "<|im_start|>"
END_ID, START_ID = len(VOCAB), len(VOCAB) + 1
GGUF_PRE = {"gpt2": "gpt-2", "smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}


def make_document(pre: str = "gpt2", **changes: Any) -> dict[str, Any]:
    """A tokenizer.json with the small vocabulary, one of the originals' pre-tokenizers and two special tokens."""
    added = [
        {"id": i, "content": t, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        for t, i in ((END, END_ID), (START, START_ID))
    ]
    model = {"type": "BPE", "vocab": dict(VOCAB), "merges": list(MERGES), "unk_token": None} | changes.pop("model", {})
    whole = {"added_tokens": added, "normalizer": None, "pre_tokenizer": GOLDENS["pre_tokenizers"][pre], "model": model}
    return whole | changes


def make_gguf_metadata(pre: str = "gpt2", **changes: object) -> dict[str, object]:
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


def compare_with_goldens(tokenizer: Tokenizer, name: str) -> None:
    for text, ids in zip(GOLDENS["texts"], GOLDENS["ids"][name], strict=True):
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == text


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    return make_document


@pytest.fixture
def gguf_metadata() -> Callable[..., dict[str, object]]:
    return make_gguf_metadata


@pytest.fixture
def check_goldens() -> Callable[[Tokenizer, str], None]:
    return compare_with_goldens


@pytest.fixture
def from_json(tmp_path: Path) -> Callable[..., Tokenizer]:
    """Writes a tokenizer.json and reads it back."""

    def make(whole: dict[str, Any], **ids: int) -> Tokenizer:
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
        tokenizer = Tokenizer.from_folder(tmp_path, **ids)
        assert tokenizer is not None
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    return {pre: Tokenizer.from_gguf(make_gguf_metadata(pre), "x.gguf") for pre in GGUF_PRE}
