"""SentencePiece's vocabularies, from the pieces, types and scores that GGUF, tokenizer.model and llama2.c's files have.

BPE goes through tiktoken, Unigram and what changes text before (its normaliser) through Hugging Face's library, in the
steps that do what sentencepiece's src/normalizer.cc and src/unigram_model.cc do.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.character_level import BYTE_TOKENS, SPACE, CharacterLevel
from pygpt.tokenizer.model_file import BPE, UNIGRAM, ModelFile
from pygpt.tokenizer.vocabulary import AddedToken, Vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of pieces."""
_BYTE_TOKENS = frozenset(BYTE_TOKENS)
_MAX_PIECE = 4096  # characters; sentencepiece's trainer makes pieces of 16 unless it is told otherwise


def of_model(model: ModelFile, common: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a model. `common` are fields of `Vocabulary`: source, ids and what texts begin and end with."""
    source = common["source"]
    if model.model_type not in (BPE, UNIGRAM):
        raise TokenizerError(f"{source}: the kind of SentencePiece model {model.model_type} is neither BPE nor Unigram")
    if model.whitespace_as_suffix or not model.escape_whitespaces:
        raise TokenizerError(f"{source}: its spaces are not spelled before words, which pygpt does not compute")
    if not 0 <= model.unk_id < len(model.pieces):
        raise TokenizerError(f"{source}: the unknown token is {model.unk_id}, of {len(model.pieces)} pieces")
    if max(map(len, model.pieces), default=0) > _MAX_PIECE:
        raise TokenizerError(f"{source}: a piece has more than {_MAX_PIECE} characters")
    if model.model_type == UNIGRAM:
        return _unigram(model, common)
    types = np.asarray(model.types, np.int64)
    tokens, added = by_type(model.pieces, types, source, prefix_space=model.add_dummy_prefix)
    v = CharacterLevel(
        tokens=tokens,
        added=added,
        merged=_by_score(tokens, np.asarray(model.scores, np.float32), source),
        byte_fallback=model.byte_fallback,
        prefix_space=model.add_dummy_prefix,
        unk_id=model.unk_id,
        **common,
    )
    return _normalizing(v, model) if model.charsmap or model.remove_extra_whitespaces else v


def of_llama2c(pieces: Sequence[bytes], scores: Sequence[float], bos_id: int, eos_id: int, source: str) -> Vocabulary:
    """The pieces of llama2.c's tokenizer.bin, which does not say their types."""
    try:
        texts = [piece.decode().replace(" ", SPACE) for piece in pieces]
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{source}: the piece {error.object!r:.80} is not UTF-8") from error
    if not len(texts) == len(scores) > max(bos_id, eos_id) >= min(bos_id, eos_id) > 0:
        raise TokenizerError(f"{source}: {len(texts)} pieces with {len(scores)} scores; bos is {bos_id}, eos {eos_id}")
    types = [BYTE if text in _BYTE_TOKENS else NORMAL for text in texts]
    types[0] = UNKNOWN
    for i in (bos_id, eos_id):
        texts[i], types[i] = texts[i].strip("\n"), CONTROL  # llama2.c shows them on lines of their own
    model = ModelFile(
        pieces=texts,
        scores=list(scores),
        types=types,
        model_type=BPE,
        byte_fallback=True,
        remove_extra_whitespaces=False,
    )
    return of_model(model, {"source": source, "bos_id": bos_id, "eos_id": eos_id, "prefix": (bos_id,)})


def by_type(
    texts: Sequence[str], types: NDArray[np.int64], source: str, *, prefix_space: bool
) -> tuple[dict[str, int], tuple[AddedToken, ...]]:
    """The tokens that merging may give or that stand for bytes, and those that are found in a text before."""
    kept = np.flatnonzero((types == CONTROL) | (types == UNKNOWN) | (types == USER_DEFINED))
    added = []
    for i in kept.tolist():
        text, special = texts[i], bool(types[i] != USER_DEFINED)
        # SentencePiece finds the symbols that a user defined after it has spelled the spaces.
        normalized = not special and not prefix_space and (" " in text or SPACE in text)
        added.append(AddedToken(text=text, id=i, special=special, normalized=normalized))
    if len({t.text for t in added}) < len(added):
        raise TokenizerError(f"{source}: two of its added tokens have the same text")
    return {texts[i]: i for i in np.flatnonzero((types == NORMAL) | (types == BYTE)).tolist()}, tuple(added)


def _by_score(tokens: Mapping[str, int], scores: NDArray[np.float32], source: str) -> list[str]:
    """The tokens of several characters, those of the greatest score first; `scores` by id."""
    several = [t for t in tokens if len(t) > 1 and t not in _BYTE_TOKENS]
    own = scores[[tokens[t] for t in several]]
    if not np.all(np.isfinite(own)):
        raise TokenizerError(f"{source}: has a score that is no number")
    return [several[i] for i in np.argsort(-own, kind="stable").tolist()]


def _normalizing(v: CharacterLevel, model: ModelFile) -> Vocabulary:
    """BPE after a normaliser."""
    from pygpt.tokenizer.export import to_document
    from pygpt.tokenizer.library import Library

    table = to_document(v)
    steps = {key: table[key] for key in ("pre_tokenizer", "decoder", "model")}
    return Library(steps={**steps, "normalizer": _normalizer(model)}, **_shared(v))


def _shared(v: Vocabulary) -> dict[str, Any]:
    return {
        "source": v.source,
        "tokens": v.tokens,
        "added": v.added,
        "prefix": v.prefix,
        "suffix": v.suffix,
        "bos_id": v.bos_id,
        "eos_id": v.eos_id,
        "unk_id": v.unk_id,
        "prefix_space": v.prefix_space,
    }


def _normalizer(model: ModelFile) -> dict[str, object]:
    steps: list[dict[str, object]] = []
    if model.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()})
    if model.remove_extra_whitespaces:  # of whitespace, spaces only
        steps += [_replaced({"Regex": rf"\A +|[ {SPACE}]+\z"}, ""), _replaced({"Regex": " {2,}"}, " ")]
    if model.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    return {"type": "Sequence", "normalizers": [*steps, _replaced({"String": " "}, SPACE)]}


def _replaced(pattern: dict[str, str], content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _unigram(model: ModelFile, common: Mapping[str, Any]) -> Vocabulary:
    """The pieces of the likeliest way to cut the text (Kudo 2018, arXiv:1804.10959)."""
    from pygpt.tokenizer.export import DECODER
    from pygpt.tokenizer.library import Library, masked

    tokens: dict[str, int] = {}
    symbols: list[str] = []
    added = []
    for i, (text, kind) in enumerate(zip(model.pieces, model.types, strict=True)):
        name = masked(i) if kind == UNUSED else text
        if tokens.setdefault(name, i) != i:
            raise TokenizerError(f"{common['source']}: two tokens have the text {text[:80]!r}")
        if kind in (UNKNOWN, CONTROL):
            added.append(AddedToken(text=text, id=i))
        elif kind == USER_DEFINED:
            symbols.append(text)
    pattern = "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
    isolated = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    vocab = list(zip(tokens, model.scores, strict=True))
    steps = {
        "normalizer": _normalizer(model),
        "pre_tokenizer": isolated if symbols else None,
        "decoder": {"type": "Sequence", "decoders": DECODER[: 4 if model.add_dummy_prefix else 3]},
        "model": {
            "type": "Unigram",
            "unk_id": model.unk_id,
            "vocab": vocab,
            "byte_fallback": model.byte_fallback,
        },
    }
    return Library(steps=steps, tokens=tokens, added=tuple(added), prefix_space=model.add_dummy_prefix, **common)
