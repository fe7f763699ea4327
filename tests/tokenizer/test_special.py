"""A vocabulary with more control tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from pygpt import Tokenizer
from pygpt.classification import SpecialIds
from pygpt.errors import TokenizerError
from pygpt.tokenizer.added import Finder
from pygpt.tokenizer.byte_level import BYTE_LETTERS, ByteLevel
from pygpt.tokenizer.expressions import GPT2
from pygpt.tokenizer.vocabulary import AddedToken
from pygpt.training.batches import encode

NEW = {"_start_": 300, "_end_": 301}


def test_more_control_tokens_change_nothing_else(gpt2_folder: Path, tmp_path: Path) -> None:
    plain = Tokenizer.from_folder(gpt2_folder)
    assert plain is not None
    extended = plain.with_special(NEW)
    text = "in the _start_ of it<|endoftext|>"
    assert extended.encode(text) == plain.encode(text)
    assert extended.special_tokens == {**plain.special_tokens, **NEW}
    assert extended.encode("_start_ of", allow_special=True) == [300, *plain.encode(" of")]
    assert extended.decode([301]) == "_end_"
    assert (extended.n_vocab, extended.eos_id) == (302, plain.eos_id)
    extended.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again is not None
    assert again.special_tokens == extended.special_tokens
    assert again.encode(text, allow_special=True) == extended.encode(text, allow_special=True)


@pytest.mark.parametrize(
    ("tokens", "message"), [({"Ġthe": 300}, "has a token 'Ġthe' already"), ({"_start_": 5}, "have the same id")]
)
def test_a_token_that_is_there_is_refused(gpt2_folder: Path, tokens: dict[str, int], message: str) -> None:
    plain = Tokenizer.from_folder(gpt2_folder)
    assert plain is not None
    with pytest.raises(TokenizerError, match=message):
        plain.with_special(tokens).encode("x")


def test_tokens_at_the_end_of_a_text() -> None:
    """A shorter one is not taken for a longer one that the text has no room for."""
    flags = {"special": False, "lstrip": True, "rstrip": True}
    shorter, longer = (AddedToken(text=t, id=len(t), **flags) for t in (" ", "  "))
    found = Finder({" ": shorter, "  ": longer}).split("b3   ", allow_special=True)
    assert list(found) == [("b3", None), ("   ", longer)]


def test_tiktokens_own_encodings_are_left_alone() -> None:
    with pytest.raises(TokenizerError, match="'gpt2' cannot be given more tokens"):
        Tokenizer("gpt2").with_special(NEW)


def test_a_form_gets_no_begin_of_text() -> None:
    """Its texts stand between special tokens of the task's own."""
    v = ByteLevel(
        source="x",
        tokens={letter: i for i, letter in enumerate(BYTE_LETTERS)},
        merges="",
        splits=(GPT2,),
        added=(AddedToken(text="<s>", id=256),),
        prefix=(256,),
    )
    tokenizer = Tokenizer(lambda: v)
    assert tokenizer.encode("ab") == [256, 97, 98]
    examples = encode([(("a", "b"), 0)], "entailment", tokenizer, SpecialIds(300, 301, 302), 16)
    assert [s.tolist() for s in examples.examples[0]] == [[300, 97, 301, 98, 302]]
