"""A byte-level vocabulary in the form that is ready soonest: arrays of its tokens by rank, and a table of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.byte_words import Ranks, ranks_of
from pygpt.tokenizer.encoding import Encoding, of_ranks
from pygpt.tokenizer.vocabulary import AddedToken, Rules, Vocabulary

ARRAYS = ("tokens", "ids")
"""The tokens that merging gives, those that are whole pieces only and the others, each after its length in 8 bytes; and
the ids of the 256 bytes (-1: the vocabulary lacks it) and of these tokens."""
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
        "tokens": np.frombuffer(b"".join(len(t).to_bytes(8, "little") + t for t in tokens), np.uint8),
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


def _ranks(n_merged: int, n_whole: int, data: NDArray[Any], ids: NDArray[Any]) -> Ranks:
    every = ids.tolist()
    n_used = n_merged + n_whole
    if not 0 <= n_merged <= n_used <= len(every) - 256:
        raise ValueError("the numbers of tokens and of ids do not agree")
    tokens, end = _core.split_strings(data, 0, len(every) - 256)
    if end != len(data) or min(every) < -1 or -1 in every[256:] or len({*tokens[:n_merged]}) != n_merged:
        raise ValueError("an id or a token is not what it must be")
    whole = dict(zip(tokens[n_merged:n_used], every[256 + n_merged : 256 + n_used], strict=True))
    others = dict(zip(every[256 + n_used :], tokens[n_used:], strict=True))
    return Ranks(tokens[:n_merged], [None if i < 0 else i for i in every[: 256 + n_merged]], whole, others)
