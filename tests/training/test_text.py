"""Reading text in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygpt import Tokenizer
from pygpt.tokenizer.byte_level import BYTE_LETTERS, ByteLevel
from pygpt.tokenizer.expressions import GPT2, LLAMA3, NUMBER, QWEN2
from pygpt.training import text

END = "<|endoftext|>"
MERGES = ["Ġ Ġ", "Ċ Ċ", ". Ċ", "a b", "Ġ a", "Ġa b", "1 2", "Ġ .", "Ċ Ġ", ". ."]
VOCABULARIES = {
    name: Tokenizer(
        lambda splits=splits: ByteLevel(
            source="test",
            tokens={t: i for i, t in enumerate([*BYTE_LETTERS, *(m.replace(" ", "") for m in MERGES)])},
            merges="\n".join(MERGES),
            splits=splits,
        )
    )
    for name, splits in {"gpt2": (GPT2,), "digits": (NUMBER, GPT2), "llama3": (LLAMA3,), "qwen2": (QWEN2,)}.items()
}


@pytest.mark.parametrize("name", VOCABULARIES)
@given(content=st.text("ab1'.\n\r \té東", min_size=1, max_size=80), block=st.integers(1, 9))
def test_the_tokens_of_the_pieces_are_those_of_the_text(
    name: str, content: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "pieces.txt"
    file.write_bytes(content.encode())
    tokenizer = VOCABULARIES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        pieces = [piece for _, (piece, _) in text.Division(text.scan(file), text.scan(file), "tail", 0).pieces()]
    pieces = pieces[: len(pieces) // 2]  # the text, then the same one for validation
    assert "".join(pieces) == content
    assert [i for piece in pieces for i in tokenizer.encode(piece)] == tokenizer.encode(content)


@given(
    documents=st.lists(st.text("ab \n.", min_size=1, max_size=12), min_size=1, max_size=6),
    block=st.integers(1, 9),
    share=st.floats(0.05, 0.95),
)
def test_documents_are_the_same_however_the_file_is_read(
    documents: list[str], block: int, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = [d.lstrip("\n") or "a" for d in documents]  # a newline after the mark is part of the mark
    file = tmp_path_factory.getbasetemp() / "documents.txt"
    file.write_bytes(END.join(documents).encode())
    parts = ["", ""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        scanned = text.scan(file)
        for part, (piece, end) in text.Division(scanned, None, "tail", share).pieces():
            assert piece
            parts[part] += piece + "|" * end
    assert scanned.n_documents == len(documents)
    whole = "".join(documents)
    n_train = int(len(whole) * (1 - share))
    assert parts[0].replace("|", "") == whole[:n_train]
    assert parts[1].replace("|", "") == whole[n_train:]
    assert [part[-1:] for part in parts if part] == ["|"] * sum(map(bool, parts))
    assert parts[0].count("|") + parts[1].count("|") in (len(documents), len(documents) + 1)
