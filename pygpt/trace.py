"""`Trace`: what is inside a forward pass, for those who want to look."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core, sites, trace_html, trace_plots
from pygpt.config import ModelConfig
from pygpt.errors import check_type
from pygpt.generation.logprobs import likeliest
from pygpt.generation.params import integer
from pygpt.information import entropy, log_softmax, surprisal
from pygpt.reference import attention_maps
from pygpt.sites import Patch, Site, Value, read_layers, read_patches
from pygpt.tokenizer import Tokenizer
from pygpt.trace_text import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float32]
LogP = NDArray[np.floating[Any]]

_CHUNK = 1 << 22  # logits whose logarithms are in memory together


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """The likeliest tokens at each place, the likeliest first: arrays of one shape, (..., top)."""

    ids: NDArray[np.int64]
    probabilities: Floats
    pieces: NDArray[np.object_]  # each a str


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What is inside one forward pass of T tokens, in float32, as the core computed it.

    Of each layer that was asked for, in the order of `layers` (L of them; C is config.n_embd, H query heads, K key and
    value heads of D values, V tokens in the vocabulary)::

        model = Model.load("tiny")
        trace = model.trace("Once upon a time", attention=True)
        trace.hidden[-1] @ direction              # how far the stream goes in a direction, by token
        trace.attention[2, 0, -1]                 # where head 0 of layer 2 looks from the last token
        trace.surprisal[1:].max()                 # the first token has none: NaN
        trace.lens(top=1).pieces[:, -1, 0]        # what each layer would say next

    Exact: the last layer's `hidden`, through the model's final norm and head, is `logits`, and that is
    `Model.logits`, equal to the bit. Queries, keys and values are those before they are rounded to the cache's format.
    In a parallel block (GPT-NeoX, GPT-J) the MLP does not read `after_attention`, which is the sum it is added to.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]  # what each token stands for; U+FFFD for a part of a character
    layers: tuple[int, ...]
    embedding: Floats  # (T, C): what block 0 reads
    queries: Floats  # (L, H, T, D): as attention uses them, after norms and rotary positions
    keys: Floats  # (L, K, T, D): the same
    values: Floats  # (L, K, T, D)
    heads: Floats  # (L, H, T, D): the mean of the values by each head, before the output's matrix
    attention_out: Floats  # (L, T, C): what attention adds to the residual stream
    after_attention: Floats  # (L, T, C): the stream with it
    neurons: (
        Floats | None
    )  # (L, T, n_inner): the MLP after its activation; NaN for layers of experts, None for none else
    mlp_out: Floats  # (L, T, C): what the MLP, or the experts, add to the stream
    hidden: Floats  # (L, T, C): the stream after the block
    attention: Floats | None  # (L, H, T, T): weights of each query (row) over the keys; None: not asked for
    logits: Floats  # (T, V)
    entropy: Floats  # (T,): of the next token, in bits
    surprisal: Floats  # (T,): -log2 p of each token given those before it; the first: NaN
    alternatives: Candidates  # (T, top): what could have come next
    _read_out: Callable[[Floats], Floats] = field(kw_only=True)  # logits (n, V) of states (n, C)
    _tokenizer: Tokenizer | None = field(kw_only=True)

    def __repr__(self) -> str:
        return f"<pygpt.Trace of {len(self.ids)} tokens, layers {list(self.layers)}>"

    def lens_logits(self, layer: int) -> Floats:
        """The logits (T, V) that the model would give if `layer` were its last: its `hidden` through the final norm and
        the head (nostalgebraist 2020, interpreting GPT: the logit lens). ValueError: a layer that was not traced."""
        return self._read_out(self.hidden[self._at(layer)])

    def lens(self, top: int = 5) -> Candidates:
        """What each traced layer would say next, (L, T, top): the likeliest of its `lens_logits`."""
        top = integer("top", top, 1, self.logits.shape[1])
        states = self.hidden.reshape(-1, self.hidden.shape[2])
        chunks = (self._read_out(states[rows]) for rows in _chunks(len(states), self.logits.shape[1]))
        found = _candidates(
            ((log_softmax(chunk.astype(np.float64)), chunk) for chunk in chunks), top, _piece_of(self._tokenizer)
        )
        shape = (*self.hidden.shape[:2], top)
        return Candidates(found.ids.reshape(shape), found.probabilities.reshape(shape), found.pieces.reshape(shape))

    def plot_attention(self, layer: int, head: int | None = None) -> Figure:
        """A matplotlib figure of a head's map, a row a token that looks, a column one that is looked at; of all heads
        of the layer side by side where no head is named. ValueError: a layer or a head that there is not, or a trace
        without attention; as for every plot, no matplotlib."""
        place = self._at(layer)
        if self.attention is None:
            raise ValueError("the trace has no attention: trace with attention=True")
        n_head = self.attention.shape[1]
        heads = range(n_head) if head is None else [integer("head", head, 0, n_head - 1)]
        return trace_plots.attention(self.attention[place, list(heads)], self._names(), self.layers[place], heads)

    def plot_lens(self) -> Figure:
        """A matplotlib figure of the likeliest next token by layer and token, coloured by its probability. ValueError:
        no layers were traced."""
        if not self.layers:
            raise ValueError("the trace has no layers")
        return trace_plots.lens(self.lens(top=1), self._names(), self.layers)

    def plot_surprisal(self) -> Figure:
        """A matplotlib figure of each token's surprisal, beside the entropy of what was foretold, in bits."""
        return trace_plots.surprisal(self.surprisal, self.entropy, self._names())

    def html(self, model: str = "the model", *, top: int = 5) -> str:
        """A page for a browser, as `pygpt explain` writes it: self-contained, with the tokens by surprisal, the
        alternatives, the heads where attention was traced, and the lens with `top` tokens a layer.

        model: what the model is called. Numbers are rounded to what is shown: bits to 0.001, attention to percents.
        """
        check_type("model", model, str)
        return trace_html.page(self, self._tokenizer, model, integer("top", top, 1, self.logits.shape[1]))

    def _repr_html_(self) -> str:
        """The tokens, coloured by their surprisal, in a notebook."""
        return trace_html.tokens(self, self._tokenizer)

    def _names(self) -> list[str]:
        return names(self._tokenizer, self.ids)

    def _at(self, layer: int) -> int:
        """The place of a layer among those that were traced."""
        layer = integer("layer", layer, -(2**31))
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not traced, only {list(self.layers)}")
        return self.layers.index(layer)


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
        maps = attention_maps(config, tensors, wanted, arrays["queries"], arrays["keys"])
    piece = _piece_of(tokenizer)
    logits = arrays["logits"]
    entropies, surprisals = np.empty(len(tokens), np.float32), np.full(len(tokens), np.nan, np.float32)

    def log_p() -> Iterator[tuple[LogP, Floats]]:
        for rows in _chunks(len(tokens), config.n_vocab):
            found = log_softmax(logits[rows].astype(np.float64))
            entropies[rows] = entropy(found)
            following = tokens[rows.start + 1 : rows.stop + 1]
            surprisals[rows.start + 1 : rows.stop + 1] = surprisal(found[: len(following)], following)
            yield found, logits[rows]

    alternatives = _candidates(log_p(), top, piece)
    return Trace(
        ids=tuple(tokens.tolist()),
        pieces=tuple(piece(token) for token in tokens.tolist()),
        layers=wanted,
        **{name: arrays.get(name) for name in (*sites.NAMES, "logits")},  # type: ignore[arg-type]
        attention=maps,
        entropy=entropies,
        surprisal=surprisals,
        alternatives=alternatives,
        _read_out=lambda states: engine.read_out(np.ascontiguousarray(states, np.float32)),
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
    for name in sites.NAMES[1:]:
        if sites.has(name, config, layers):
            joined[name] = np.full((len(layers), n_token, math.prod(sites.shape(name, config, 1))), np.nan, np.float32)
    records = [("embedding", 0, joined["embedding"][0])]
    for name in joined.keys() - {"embedding"}:
        records += [
            (name, layer, joined[name][i]) for i, layer in enumerate(layers) if sites.has(name, config, [layer])
        ]
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
    """Memory in bytes that a trace takes with all that is needed to make it, but for the cache of its keys and values.

    That is 4 for each value: of a token C + V, and in each layer 5 C + 2 (H + K) D + n_inner; with attention H T^2 a
    layer.
    """
    names = [name for name in sites.NAMES[1:] if sites.has(name, config, layers)]
    of_token = sum(math.prod(sites.shape(name, config, 1)) for name in names) * len(layers)
    values = n_token * (of_token + config.n_embd + config.n_vocab)
    if (
        attention and layers
    ):  # four arrays of one layer's scores, which tokens see which, and the heads' queries and keys
        values += ((len(layers) + 4) * config.n_head + 6) * n_token**2 + 3 * n_token * config.n_head * config.head_dim
    alternatives = n_token * (256 + 96 * top)  # as Python's objects
    return 4 * values + alternatives + 7 * 8 * max(min(_CHUNK, n_token * config.n_vocab), config.n_vocab)


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


def _chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of so many values, with at most _CHUNK values in one that has several."""
    step = max(_CHUNK // width, 1)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def _candidates(chunks: Iterator[tuple[LogP, Floats]], top: int, piece: Callable[[int], str]) -> Candidates:
    """Of all rows of the chunks, which are log-probabilities and their logits."""
    ids: list[NDArray[np.int64]] = []
    probabilities: list[Floats] = []
    for log_p, logits in chunks:
        for row, scores in zip(log_p, logits, strict=True):
            ids.append(likeliest(scores, top))
            probabilities.append(np.exp(row[ids[-1]]).astype(np.float32))
    shown = np.array(ids, np.int64).reshape(len(ids), top)
    pieces = np.array([piece(token) for token in shown.flat], object).reshape(shown.shape)
    return Candidates(shown, np.array(probabilities, np.float32).reshape(shown.shape), pieces)


def _piece_of(tokenizer: Tokenizer | None) -> Callable[[int], str]:
    """How a token is shown: as text, or as its number where there is no tokenizer, or no token of this id."""

    def piece(token: int) -> str:
        text = b"" if tokenizer is None else tokenizer.token_bytes(token)
        return text.decode(errors="replace") or str(token)

    return piece
