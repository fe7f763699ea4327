"""A byte-level vocabulary in the form that is ready soonest: arrays of tokens and merges, and a table of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.byte_words import byte_pairs
from pygpt.tokenizer.encoding import Encoding, of_pairs
from pygpt.tokenizer.vocabulary import AddedToken, Rules, Vocabulary

ARRAYS = ("texts", "ends", "ids", "merges")
"""As `_core.BytePairs.arrays` gives them."""
_FIELDS = ("prefix", "suffix", "bos_id", "eos_id", "unk_id", "prefix_space")  # of `Rules`
_LEVEL = ("splits", "normal_forms", "fuse_unk", "whole_words")  # of `ByteLevel`


def prepared(v: Vocabulary) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]] | None:
    """The table and the arrays of a vocabulary; None: it is of another kind. TokenizerError: it is damaged."""
    if not isinstance(v, ByteLevel):
        return None
    pairs = byte_pairs(v)
    table: dict[str, object] = {name: getattr(v, name) for name in (*_FIELDS, *_LEVEL)}
    table |= {"added": [dataclasses.asdict(t) for t in v.added], "n_others": pairs.n_others}
    return table, pairs.arrays()


def restored(table: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]], source: str) -> Encoding:
    """What `encoding.build` makes of the vocabulary that `prepared` took. TokenizerError: this is not from there."""
    try:
        fields: dict[str, Any] = {name: table[name] for name in _FIELDS}
        fields |= {name: tuple(fields[name]) for name in ("prefix", "suffix")}
        rules = Rules(source=source, added=tuple(AddedToken(**entry) for entry in table["added"]), **fields)
        pairs = _core.BytePairs.of_arrays(
            **{name: arrays[name] for name in ARRAYS},  # type: ignore[arg-type]
            **{name: table[name] for name in ("n_others", "unk_id", "fuse_unk", "whole_words")},
        )
        return of_pairs(rules, pairs, tuple(table["splits"]), tuple(table["normal_forms"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{source}: is not what pygpt writes: {error}") from error
