"""Vocabularies for training: byte pairs learnt from the text, or one token for each character.

Both are byte-level BPE vocabularies in the files that every checkpoint has, so that pygpt and Hugging Face's libraries
read them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from pygpt.errors import TrainingError
from pygpt.tokenizer.byte_level import BYTE_LETTERS, ByteLevel
from pygpt.tokenizer.expressions import ANY_CHARACTER, GPT2
from pygpt.tokenizer.tokenizer import Tokenizer
from pygpt.tokenizer.vocabulary import END_OF_TEXT, AddedToken

SMALLEST = 257
"""The ids that every byte-pair vocabulary has: the single bytes and the end-of-text token."""


def byte_pairs(texts: Iterable[str], n_vocab: int, *, at_most: bool = False) -> Tokenizer:
    """A vocabulary of byte pairs as GPT-2's (Radford et al. 2019; Sennrich et al. 2016, arXiv:1508.07909), learnt from
    texts: ids 0 to 255 are the bytes in GPT-2's order, then come the merges, and the last one is ``<|endoftext|>``.

    A pair that occurs only once is not merged; with `at_most`, a text that has too few pairs for n_vocab gets a smaller
    vocabulary. ValueError for an n_vocab below `SMALLEST`; TrainingError where the text has too few pairs.
    """
    if n_vocab < SMALLEST:
        raise ValueError(f"n_vocab must be at least {SMALLEST} (256 bytes and the end of text), not {n_vocab}")
    import tokenizers  # here, because few who import pygpt learn a vocabulary

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=n_vocab - 1, min_frequency=2, initial_alphabet=BYTE_LETTERS, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    found = bpe.get_vocab_size() + 1
    if at_most:
        n_vocab = found
    if found < n_vocab:
        raise TrainingError(
            f"n_vocab is {n_vocab}, but the training text supports a vocabulary of at most {found}: "
            "no pair of tokens is left that occurs twice"
        )
    model = json.loads(bpe.to_str())["model"]
    vocabulary = ByteLevel(
        source="the vocabulary learnt from the text",
        tokens=model["vocab"],
        merges="\n".join(m if isinstance(m, str) else " ".join(m) for m in model["merges"]),
        splits=(GPT2,),
        added=(AddedToken(text=END_OF_TEXT, id=n_vocab - 1),),
        bos_id=n_vocab - 1,
        eos_id=n_vocab - 1,
    )
    return Tokenizer(lambda: vocabulary)


def characters(texts: Iterable[str], end_of_text: bool) -> Tokenizer:
    """One token for each character that occurs, ids in the characters' order; then ``<|endoftext|>``, if asked for.

    Each character is a piece of its own, and a piece that is a token is never split: so no merges are needed.
    """
    alphabet: set[str] = set()
    for text in texts:
        alphabet.update(text)
    tokens = {"".join(BYTE_LETTERS[b] for b in c.encode()): i for i, c in enumerate(sorted(alphabet))}
    end = len(tokens) if end_of_text else None
    vocabulary = ByteLevel(
        source="the characters of the text",
        tokens=tokens,
        merges="",
        splits=(ANY_CHARACTER,),
        added=() if end is None else (AddedToken(text=END_OF_TEXT, id=end),),
        bos_id=end,
        eos_id=end,
        whole_words=True,
    )
    return Tokenizer(lambda: vocabulary)
