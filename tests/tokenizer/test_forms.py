"""What llguidance makes of each kind of vocabulary: the tokens that it allows give the texts that it means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import Model, SamplingParams
from pygpt.config import ModelConfig
from pygpt.generation import Grammars
from pygpt.generation.constrain import Allowed
from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.model_file import read_model_file

DATA = Path(__file__).resolve().parents[1] / "data"
WORDS = ["<unk>", *"abt", "a</w>", "b</w>", "t</w>", "ab", "tab</w>", *(f"{i}" for i in range(10))]


def pieces(name: str) -> Tokenizer:
    """SentencePiece's."""
    model = read_model_file(DATA / "pieces" / f"{name}.model")
    metadata = {
        "tokenizer.ggml.model": "t5" if model.model_type == 1 else "llama",
        "tokenizer.ggml.tokens": [piece.encode() for piece in model.pieces],
        "tokenizer.ggml.scores": np.array(model.scores, np.float32),
        "tokenizer.ggml.token_type": np.array(model.types, np.int32),
        "tokenizer.ggml.bos_token_id": model.bos_id,
        "tokenizer.ggml.eos_token_id": model.eos_id,
        "tokenizer.ggml.unknown_token_id": model.unk_id,
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": model.remove_extra_whitespaces,
        "tokenizer.ggml.precompiled_charsmap": np.frombuffer(model.charsmap, np.uint8),
    }
    return Tokenizer.from_gguf(metadata, "x.gguf")


@pytest.fixture
def words(from_json: Callable[..., Tokenizer]) -> Tokenizer:
    """GPT-1's kind: a token says whether its word ends."""
    table = {t: i for i, t in enumerate(WORDS)}
    merges = ["a b"]
    model = {"type": "BPE", "vocab": table, "merges": merges, "unk_token": "<unk>", "end_of_word_suffix": "</w>"}
    steps = {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
    return from_json({"model": model, "decoder": {"type": "BPEDecoder", "suffix": "</w>"}, **steps})


def text_of(tokenizer: Tokenizer, config: ModelConfig, rng: np.random.Generator, **form: Any) -> str:
    """A text of the form, drawn from what is allowed, each token alike."""
    constraint = Grammars(tokenizer, config).constraint(SamplingParams(**form))
    assert constraint is not None
    allowed = constraint.begin([])
    before = tokenizer.encode("a", add_special=False)
    decoder, text = tokenizer.stream(after=before), ""
    for _ in range(200):
        token = int(rng.choice(next_tokens(allowed)))
        text += decoder.push(token)
        if allowed.accept(token):
            return text + decoder.finish()
    raise AssertionError(text)


def next_tokens(allowed: Allowed) -> list[int]:
    allowed.prepare(np.zeros(0, np.int32))
    return [int(i) for i in np.flatnonzero(np.unpackbits(allowed.mask().view(np.uint8), bitorder="little"))]


@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen2", "llama", "gemma", "unigram"])
def test_every_kind_of_vocabulary(name: str, tokenizers: dict[str, Tokenizer], model: Model) -> None:
    tokenizer = tokenizers.get(name) or pieces(name)
    config = replace(model.config, n_vocab=tokenizer.n_vocab + 3, bos_id=None, eos_ids=())  # rows of padding
    rng = np.random.default_rng(1)
    schema = {"type": "array", "items": {"enum": ["the", "5", None]}, "maxItems": 4}
    for _ in range(3):
        text = text_of(tokenizer, config, rng, regex=r"(to be|não|\x{1d4b3}){2} or.not")
        assert re.fullmatch(r"(to be|não|\U0001d4b3){2} or.not", text)
        assert {*json.loads(text_of(tokenizer, config, rng, json_schema=schema))} <= {"the", "5", None}


def test_words_of_gpt1(words: Tokenizer, model: Model) -> None:
    """The end of a word is a space. The vocabulary has no other: where one must follow a part of a word, that fails."""
    config = replace(model.config, n_vocab=words.n_vocab, bos_id=None, eos_ids=())
    rng = np.random.default_rng(1)
    texts = {text_of(words, config, rng, regex="tab?[37]t").lstrip() for _ in range(30)}  # after another word
    assert texts == {"tab3t", "tab7t", "ta3t", "ta7t"}
    assert text_of(words, config, rng, regex="[ab] ").strip() in ("a", "b")
    spaced = [word_pair(words, config, rng) for _ in range(30)]
    assert "tab t" in spaced
    assert {*spaced} <= {"tab t", None}


def word_pair(words: Tokenizer, config: ModelConfig, rng: np.random.Generator) -> str | None:
    """None: it failed."""
    try:
        return text_of(words, config, rng, regex="tab t").strip()
    except ValueError:
        return None


def test_special_tokens_are_no_text(tokenizers: dict[str, Tokenizer], model: Model) -> None:
    tokenizer = tokenizers["qwen2"]
    config = replace(model.config, n_vocab=tokenizer.n_vocab, bos_id=None, eos_ids=())
    constraint = Grammars(tokenizer, config).constraint(SamplingParams(regex="(.|\n)*"))
    assert constraint is not None
    special = {*tokenizer.special_tokens.values()}
    end = min(special)
    assert special & {*next_tokens(constraint.begin([]))} == set()
    assert special & {*next_tokens(constraint.begin([end]))} == {end}
    named = Grammars(tokenizer, config).constraint(SamplingParams(grammar="start: <|im_start|>"))
    assert named is not None
    assert next_tokens(named.begin([])) == [tokenizer.special_tokens["<|im_start|>"]]


def test_a_vocabulary_without_what_has_to_come(words: Tokenizer, model: Model) -> None:
    config = replace(model.config, n_vocab=words.n_vocab, bos_id=None, eos_ids=())
    with pytest.raises(ValueError, match="the text cannot go on: there is no such text"):
        text_of(words, config, np.random.default_rng(0), regex="a!")
