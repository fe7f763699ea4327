"""One tokenizer in the layouts of a folder and of a GGUF file: the same ids, always."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.byte_level import BYTE_LETTERS

END, BOS = "<|endoftext|>", "<s>"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
KINDS: dict[str, dict[str, Any]] = {
    "gpt-2": {"class": "GPT2Tokenizer", "pre_tokenizer": BYTES, "normalizer": None},
    "qwen2": {
        "class": "Qwen2Tokenizer",
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTES | {"use_regex": False}]},
        "normalizer": {"type": "NFC"},
    },
}


class Source:
    """A tokenizer made at random, to be written in each layout."""

    def __init__(self, seed: int) -> None:
        r = random.Random(seed)
        self.kind = r.choice(sorted(KINDS))
        pool, self.merges = ["a", "b", "e", "1", "Ġ", "Ċ", "Ã", "©"], []
        for _ in range(r.randint(1, 20)):
            left, right = r.choice(pool), r.choice(pool)
            self.merges.append(f"{left} {right}")
            pool.append(left + right)
        self.vocab = {t: i for i, t in enumerate(dict.fromkeys([*BYTE_LETTERS, *pool, END]))}
        self.bos, self.eos = r.random() < 0.5, r.random() < 0.3
        self.space = self.kind == "gpt-2" and r.random() < 0.3
        self.plain = r.random() < 0.5  # some are plain text's tokens too; the older files have other flags for them
        texts = (BOS, "<gene>", "<gene>_1", "<tool>", "ab ab")
        n = len(self.vocab)
        self.added = {END: (self.vocab[END], True)}
        self.added |= {t: (n + i, i == 0 or not self.plain or r.random() < 0.5) for i, t in enumerate(texts)}

    def entries(self) -> list[dict[str, Any]]:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        return [{"id": i, "content": t, "special": s} | flags for t, (i, s) in self.added.items()]

    def document(self, folder: Path) -> None:
        ids = {t: i for t, (i, _) in self.added.items()}
        text = {"Sequence": {"id": "A", "type_id": 0}}
        begin = [{"SpecialToken": {"id": BOS, "type_id": 0}}] * self.bos
        end = [{"SpecialToken": {"id": END, "type_id": 0}}] * self.eos
        template = {
            "type": "TemplateProcessing",
            "single": [*begin, text, *end],
            "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in (BOS, END)},
        }
        kind = KINDS[self.kind]
        pre = kind["pre_tokenizer"] | ({"add_prefix_space": True} if self.space else {})
        table = {
            "version": "1.0",
            "added_tokens": self.entries(),
            "normalizer": kind["normalizer"],
            "pre_tokenizer": pre,
            "post_processor": template,
            "model": {"type": "BPE", "vocab": self.vocab, "merges": self.merges},
        }
        (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")

    def two_files(self, folder: Path, decoder: bool) -> None:
        """vocab.json and merges.txt, and tokenizer_config.json with all added tokens, or the two older files."""
        (folder / "vocab.json").write_text(json.dumps(self.vocab), encoding="utf-8")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *self.merges, ""]), encoding="utf-8")
        config: dict[str, Any] = {"tokenizer_class": KINDS[self.kind]["class"], "bos_token": BOS, "eos_token": END}
        config |= {"add_bos_token": self.bos, "add_eos_token": self.eos, "add_prefix_space": self.space}
        special = [t for t, (_, s) in self.added.items() if s]
        if decoder:
            config["added_tokens_decoder"] = {str(e.pop("id")): e for e in self.entries()}
        else:
            named = {"bos_token": BOS, "eos_token": {"content": END}, "additional_special_tokens": special}
            (folder / "special_tokens_map.json").write_text(json.dumps(named), encoding="utf-8")
            table = {t: i for t, (i, _) in self.added.items() if t != END}
            (folder / "added_tokens.json").write_text(json.dumps(table), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")

    def gguf(self) -> Tokenizer:
        added = {t: i for t, (i, _) in self.added.items()}
        tokens = sorted(self.vocab | added, key=(self.vocab | added).__getitem__)
        types = [(3 if self.added[t][1] else 4) if t in self.added else 1 for t in tokens]
        return Tokenizer.from_gguf(
            {
                "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.pre": self.kind,
                "tokenizer.ggml.tokens": [t.encode() for t in tokens],
                "tokenizer.ggml.token_type": np.array(types, np.int32),
                "tokenizer.ggml.merges": [m.encode() for m in self.merges],
                "tokenizer.ggml.bos_token_id": added[BOS],
                "tokenizer.ggml.eos_token_id": added[END],
                "tokenizer.ggml.add_bos_token": self.bos,
                "tokenizer.ggml.add_eos_token": self.eos,
                "tokenizer.ggml.add_space_prefix": self.space,
                "tokenizer.ggml.padding_token_id": added[END],
                "tokenizer.chat_template": "{{ messages }}",
            },
            "x.gguf",
        )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64),
    texts=st.lists(st.text("ab e1'é\n<>gn_toleST\u0301", max_size=20), min_size=1, max_size=6),
)
def test_all_layouts_give_the_same_ids(tmp_path_factory: pytest.TempPathFactory, seed: int, texts: list[str]) -> None:
    source = Source(seed)
    folders = [tmp_path_factory.getbasetemp() / f"layout-{i}" for i in range(4)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    source.document(folders[0])
    source.two_files(folders[1], decoder=True)
    source.two_files(folders[2], decoder=False)
    gguf = source.gguf()
    gguf.save(folders[3])  # a tokenizer.json again
    read = [Tokenizer.from_folder(folder) for i, folder in enumerate(folders) if i != 2 or not source.plain]
    pieces = ["<gene>", "<gene>_1", "<s>", "<tool>", "ab ab", END]
    for text in (*texts, "".join(f"{t}{p}" for t, p in zip(texts, pieces, strict=False))):
        for allow in (False, True):
            ids = gguf.encode(text, allow_special=allow)
            for tokenizer in read:
                assert tokenizer is not None
                assert tokenizer.encode(text, allow_special=allow) == ids, (text, tokenizer)
                assert tokenizer.special_tokens == gguf.special_tokens
    assert [i in (gguf.bos_id, gguf.eos_id) for i in gguf.encode("", add_special=True)] == [True] * (
        source.bos + source.eos
    )
    assert gguf.encode("", add_special=False) == []
