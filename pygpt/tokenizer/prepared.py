"""A byte-level vocabulary in the form that is ready soonest: arrays of its tokens by rank, and a table of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.byte_words import Ranks, ranks_of
from pygpt.tokenizer.encoding import Encoding, of_ranks
from pygpt.tokenizer.vocabulary import AddedToken, Rules, Vocabulary

ARRAYS = ("texts", "ends", "ids")
"""The bytes of the tokens that merging gives, of those that are whole pieces only and of the others, one after another;
where each ends; and the ids of the 256 bytes (-1: the vocabulary lacks it) and of these tokens."""
_FIELDS = ("prefix", "suffix", "bos_id", "eos_id", "unk_id", "prefix_space")  # of `Rules`
_LEVEL = ("splits", "normal_forms", "fuse_unk")  # of `ByteLevel`


def prepared(v: Vocabulary) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]] | None:
    """The table and the arrays of a vocabulary; None: it is of another kind. TokenizerError: it is damaged."""
    if not isinstance(v, ByteLevel):
        return None
    ranks = ranks_of(v)
    tokens = [*ranks.merged, *ranks.whole, *ranks.others.values()]
    ids = [*(-1 if i is None else i for i in ranks.ids), *ranks.whole.values(), *ranks.others]
    arrays: dict[str, NDArray[np.generic]] = {
        "texts": np.frombuffer(b"".join(tokens), np.uint8),
        "ends": np.cumsum(np.fromiter(map(len, tokens), np.int32, len(tokens)), dtype=np.int32),
        "ids": np.array(ids, np.int32),
    }
    table: dict[str, object] = {name: getattr(v, name) for name in (*_FIELDS, *_LEVEL)}
    table |= {"added": [dataclasses.asdict(t) for t in v.added]}
    return table | {"n_merged": len(ranks.merged), "n_whole": len(ranks.whole)}, arrays


def restored(table: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]], source: str) -> Encoding:
    """What `encoding.build` makes of the vocabulary that `prepared` took. TokenizerError: this is not from there."""
    try:
        fields: dict[str, Any] = {name: table[name] for name in _FIELDS}
        fields |= {name: tuple(fields[name]) for name in ("prefix", "suffix")}
        rules = Rules(source=source, added=tuple(AddedToken(**entry) for entry in table["added"]), **fields)
        ranks = _ranks(table["n_merged"], table["n_whole"], *(arrays[name] for name in ARRAYS))
        splits, forms = tuple(table["splits"]), tuple(table["normal_forms"])
        return of_ranks(rules, ranks, splits, forms, fuse_unk=table["fuse_unk"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{source}: is not what pygpt writes: {error}") from error


def _ranks(n_merged: int, n_whole: int, texts: NDArray[Any], ends: NDArray[Any], ids: NDArray[Any]) -> Ranks:
    n = len(ends)
    starts = np.append(0, ends[:-1])
    if len(ids) != 256 + n or not 0 <= n_merged <= n_merged + n_whole <= n:
        raise ValueError("the numbers of tokens and of ids do not agree")
    if np.any(starts > ends) or (n and ends[-1] > len(texts)):
        raise ValueError("a token lies outside of texts")
    joined = texts.tobytes()
    tokens = [joined[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    every = ids.tolist()
    n_ranks, n_used = 256 + n_merged, n_merged + n_whole
    whole = dict(zip(tokens[n_merged:n_used], every[n_ranks : 256 + n_used], strict=True))
    others = dict(zip(every[256 + n_used :], tokens[n_used:], strict=True))
    if min(every, default=0) < -1 or -1 in every[256:] or len({*tokens[:n_merged]}) != n_merged:
        raise ValueError("an id or a token is not what it must be")
    return Ranks(tokens[:n_merged], [None if i < 0 else i for i in every[:n_ranks]], whole, others)
