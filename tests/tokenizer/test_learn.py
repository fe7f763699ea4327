"""Vocabularies learnt from text."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from pygpt import Tokenizer
from pygpt.errors import TokenizerError, TrainingError
from pygpt.tokenizer import learn

TEXT = "the cat sat on the mat; the dog sat on the log. Ça va, 東京? 🙂 it's 1984\n\n" * 3


def test_byte_pairs_are_laid_out_as_in_gpt2(tmp_path: Path) -> None:
    tokenizer = learn.byte_pairs([TEXT], 290)
    assert tokenizer.n_vocab == 290
    assert tokenizer.special_tokens == {"<|endoftext|>": 289}
    assert (tokenizer.bos_id, tokenizer.eos_id) == (289, 289)
    assert tokenizer.encode("!") == [0]
    assert tokenizer.encode("\x00") == [188]  # after the 188 printable bytes, as in GPT-2
    assert tokenizer.encode(" the") < [289]
    assert len(tokenizer.encode(" the")) == 1
    assert tokenizer.decode(tokenizer.encode("unseen: Ωμέγα\r\n\t \x00")) == "unseen: Ωμέγα\r\n\t \x00"
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_folder(tmp_path)
    assert again is not None
    assert tokenizer.encode(TEXT) == again.encode(TEXT) == theirs.encode(TEXT).ids
    assert theirs.get_vocab_size() == 290


def test_byte_pairs_merge_the_most_frequent_first() -> None:
    tokenizer = learn.byte_pairs(["ab ab ab ab xy xy"], 259)
    assert tokenizer.encode("ab")[0] == 256
    assert len(tokenizer.encode("xy")) == 2
    assert tokenizer.encode(" ab") == [257]


def test_byte_pairs_are_the_same_each_time() -> None:
    texts = [TEXT, "other words, other merges: " * 5]
    first, second = (learn.byte_pairs(texts, 300).encode(TEXT) for _ in range(2))
    assert first == second


def test_a_vocabulary_larger_than_the_text_supports_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"n_vocab is 1000, but .* supports a vocabulary of at most 260"):
        learn.byte_pairs(["ab ab cd cd"], 1000)
    assert learn.byte_pairs(["ab ab cd cd"], 260).n_vocab == 260
    with pytest.raises(ValueError, match="n_vocab must be at least 257"):
        learn.byte_pairs(["ab ab"], 256)


def test_the_characters_of_ascii_text_are_all_tokens_in_their_order() -> None:
    tokenizer = learn.characters(["hello\n", "World  "], end_of_text=False)
    assert tokenizer.n_vocab == 9
    assert tokenizer.encode("\n Wdehlor") == [*range(9)]
    assert (tokenizer.special_tokens, tokenizer.eos_id) == ({}, None)


def test_any_character_is_one_token(tmp_path: Path) -> None:
    tokenizer = learn.characters([TEXT], end_of_text=True)
    alphabet = sorted(set(TEXT))
    assert tokenizer.n_vocab == len(alphabet) + 1
    assert tokenizer.eos_id == len(alphabet)
    assert tokenizer.encode(TEXT) == [alphabet.index(c) for c in TEXT]
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again is not None
    assert again.encode(TEXT) == theirs.encode(TEXT).ids == tokenizer.encode(TEXT)
    assert theirs.decode(tokenizer.encode(TEXT)) == TEXT
    assert again.special_tokens == tokenizer.special_tokens


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_characters_round_trip(text: str) -> None:
    tokenizer = learn.characters([text], end_of_text=False)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.n_vocab == len(set(text))
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("unknown", ["z", "é", "東", "🙂", "ç"])
def test_an_unknown_character_is_an_error(unknown: str) -> None:
    tokenizer = learn.characters(["Ça va, êè京"], end_of_text=False)
    with pytest.raises(TokenizerError, match="no token for the byte"):
        tokenizer.encode(f"a{unknown}")
