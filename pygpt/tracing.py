"""How a `Trace` is made: the core fills its arrays, and the rest follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pygpt import _core, sites
from pygpt.config import ModelConfig
from pygpt.errors import check_type
from pygpt.generation.params import integer
from pygpt.information import entropy, surprisal
from pygpt.reference import attention_maps
from pygpt.sites import Patch, Site, Value, read_layers, read_patches
from pygpt.tokenizer import Tokenizer
from pygpt.trace import CHUNK, Floats, Trace, candidates, chunks, piece


def trace(
    engine: _core.Engine,
    config: ModelConfig,
    tokenizer: Tokenizer | None,
    tokens: NDArray[np.int32],
    layers: Sequence[int] | None,
    attention: bool,
    top: int,
    patch: Mapping[Site, Value] | None,
) -> Trace:
    """The trace of tokens (T,) that fit the context. Errors as of `Model.trace`."""
    wanted = read_layers(layers, config)
    patches = read_patches(patch, config, len(tokens))
    check_type("attention", attention, bool)
    top = integer("top", top, 1, config.n_vocab)
    _check_memory(engine, config, len(tokens), wanted, attention, top)
    arrays = _run(engine, config, tokens, wanted, patches)
    maps = None
    if attention:
        tensors = {name: array for name, (_, array) in engine.tensors().items() if name.endswith(".sinks")}
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is there to be seen
            maps = attention_maps(config, tensors, wanted, arrays["queries"], arrays["keys"])
    entropies, surprisals = np.empty(len(tokens), np.float32), np.full(len(tokens), np.nan, np.float32)

    def log_p() -> Iterator[Floats]:
        for rows in chunks(len(tokens), config.n_vocab):
            found = engine.log_softmax(arrays["logits"][rows])
            entropies[rows] = entropy(found)
            following = tokens[rows.start + 1 : rows.stop + 1]
            surprisals[rows.start + 1 : rows.stop + 1] = surprisal(found[: len(following)], following)
            yield found

    alternatives = candidates(log_p(), top, tokenizer)
    return Trace(
        ids=tuple(tokens.tolist()),
        pieces=tuple(piece(token, tokenizer) for token in tokens.tolist()),
        layers=wanted,
        **{name: arrays.get(name) for name in (*sites.NAMES, "logits")},  # type: ignore[arg-type]
        attention=maps,
        entropy=entropies,
        surprisal=surprisals,
        alternatives=alternatives,
        _n_layer=config.n_layer,
        _engine=engine,
        _tokenizer=tokenizer,
    )


def _run(
    engine: _core.Engine,
    config: ModelConfig,
    tokens: NDArray[np.int32],
    layers: tuple[int, ...],
    patches: Sequence[Patch],
) -> dict[str, Floats]:
    """The arrays of a `Trace` that the core fills: those of `sites.NAMES`, and "logits"."""
    n_token = len(tokens)
    joined = {"embedding": np.empty((1, n_token, config.n_embd), np.float32)}  # heads lie side by side in a row
    records = [("embedding", 0, joined["embedding"][0])]
    for name in (name for name in sites.NAMES[1:] if sites.has(name, config, layers)):
        joined[name] = np.empty((len(layers), n_token, math.prod(sites.shape(name, config, 1))), np.float32)
        for layer, rows in zip(layers, joined[name], strict=True):
            if sites.has(name, config, [layer]):
                records.append((name, layer, rows))
            else:
                rows.fill(np.nan)
    changes = []
    for change in patches:
        row_of = np.full(n_token, -1, np.int32)
        row_of[change.tokens] = np.arange(len(change.tokens))
        changes.append((change.name, change.layer, change.first, row_of, change.values.astype(np.float32)))
    out = {"logits": engine.trace(tokens, records, changes)}
    for name, rows in joined.items():
        n, _, d = sites.shape(name, config, n_token) if sites.is_by_head(name) else (0, 0, 0)
        out[name] = rows.reshape(*rows.shape[:2], n, d).swapaxes(1, 2) if n else rows
    return out | {"embedding": out["embedding"][0]}


def n_bytes(config: ModelConfig, n_token: int, layers: Sequence[int], attention: bool, top: int) -> int:
    """Memory in bytes that a trace takes with all that is needed to make it, but for the cache of its keys and values
    and what is patched; `Trace` has the formula."""
    names = [name for name in sites.NAMES[1:] if sites.has(name, config, layers)]
    of_token = sum(math.prod(sites.shape(name, config, 1)) for name in names) * len(layers)
    values = n_token * (of_token + config.n_embd + config.n_vocab)
    if attention and layers:  # of one layer also four arrays of scores, which tokens see which, its queries and keys
        values += ((len(layers) + 4) * config.n_head + 6) * n_token**2 + 3 * n_token * config.n_head * config.head_dim
    chunk = max(min(CHUNK, n_token * config.n_vocab), config.n_vocab)  # four arrays of it
    return 4 * (values + 4 * chunk) + n_token * (256 + 96 * top)  # and Python's objects of the alternatives


def _check_memory(
    engine: _core.Engine, config: ModelConfig, n_token: int, layers: Sequence[int], attention: bool, top: int
) -> None:
    """ValueError, which says how much is needed, where there is less."""
    needed = n_bytes(config, n_token, layers, attention, top) + engine.cache_bytes(n_token)
    free = _core.available_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"a trace of {n_token} tokens in {len(layers)} layers{' with attention' if attention else ''} needs "
            f"{_size(needed)} of memory, and {_size(free)} are free: trace fewer tokens or layers"
            f"{', or no attention' if attention else ''}"
        )


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"
