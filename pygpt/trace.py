"""`Trace`: what is inside a forward pass, for those who want to look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core, trace_html, trace_plots
from pygpt.errors import check_type
from pygpt.generation.logprobs import likeliest
from pygpt.generation.params import integer
from pygpt.sites import place
from pygpt.tokenizer import Tokenizer
from pygpt.trace_text import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pygpt.model import Model

Floats = NDArray[np.float32]

CHUNK = 1 << 22
"""So many logits are in memory together beside those that are kept."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """The likeliest tokens at each place, the likeliest first: arrays of one shape, (..., top)."""

    ids: NDArray[np.int64]
    probabilities: Floats
    pieces: NDArray[np.object_]
    """Each a str: the token's text."""


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What is inside one forward pass of T tokens, in float32, as the core computed it.

    Of each layer that was asked for, in the order of `layers` (L of them; C is config.n_embd, H query heads, K key and
    value heads of D values, V tokens in the vocabulary)::

        model = Model.load("tiny")
        trace = model.trace("Once upon a time", attention=True)
        trace.hidden[2, -1]                       # what the last token has become after layer 2
        trace.attention[2, 0, -1]                 # where head 0 of that layer looks from the last token
        trace.surprisal[1:].max()                 # the first token has none: NaN
        trace.lens(top=1).pieces[:, -1, 0]        # what each layer would say next

    Memory: four bytes a value, so 4 (C + V) a token, 4 (4 C + 2 (H + K) D + n_inner) a token and layer, and 4 H T^2 a
    layer with attention. `Model.trace` asks first whether there is as much.

    Exact: the last layer's `hidden`, through the model's final norm and head, is `logits`, and that is
    `Model.logits`, equal to the bit. Queries, keys and values are those before they are rounded to the cache's format.
    In a parallel block (GPT-NeoX, GPT-J) the MLP does not read `after_attention`, which is the sum it is added to.

    It can be pickled and copied, without the model, which only the lens and its page ask: `with_model` gives it back.
    """

    ids: tuple[int, ...]
    """The tokens, those included that the tokenizer adds."""
    pieces: tuple[str, ...]
    """What each token stands for; U+FFFD for a part of a character."""
    layers: tuple[int, ...]
    """Which blocks, counted from 0, in the order of the arrays below."""
    embedding: Floats
    """(T, C): what block 0 reads."""
    queries: Floats
    """(L, H, T, D): of each head, after norms and rotary positions."""
    keys: Floats
    """(L, K, T, D): after norms and rotary positions, too."""
    values: Floats
    """(L, K, T, D): what attention takes the mean of."""
    heads: Floats
    """(L, H, T, D): the mean of the values that each head takes, before the matrix that mixes the heads."""
    attention_out: Floats
    """(L, T, C): what attention adds to the residual stream, norms and scales included."""
    after_attention: Floats
    """(L, T, C): the residual stream with it."""
    neurons: Floats | None
    """(L, T, n_inner): the inner values of the MLP, after its activation and gate. NaN in layers of experts; None where
    all are."""
    mlp_out: Floats
    """(L, T, C): what the MLP, or the experts, add to the stream."""
    hidden: Floats
    """(L, T, C): the residual stream with that, after the block."""
    attention: Floats | None
    """(L, H, T, T): how much each token (row) looks at each (column), as `reference.attention_weights` has it from the
    queries and keys. None: not asked for."""
    logits: Floats
    """(T, V): row t scores each token as the one that follows the first t + 1."""
    entropy: Floats
    """(T,): how uncertain the next token is, in bits."""
    surprisal: Floats
    """(T,): -log2 of the probability that each token had, given those before it, in bits. The first has none: NaN."""
    alternatives: Candidates
    """(T, top): the likeliest tokens after each, the likeliest first."""
    _n_layer: int = field(kw_only=True)  # of the model
    _engine: _core.Engine | None = field(kw_only=True)  # None: it was pickled
    _tokenizer: Tokenizer | None = field(kw_only=True)

    def __repr__(self) -> str:
        return f"<pygpt.Trace of {len(self.ids)} tokens, layers {list(self.layers)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_engine": None}

    def with_model(self, model: Model) -> Trace:
        """The same numbers, with the model that made them: for the lens of a trace that was pickled. ValueError: it is
        another model, which its sizes tell, and the logits where the last layer was traced."""
        from pygpt.model import Model  # which imports this module

        check_type("model", model, Model)
        config, last = model.config, self._n_layer - 1
        sizes = (config.n_layer, config.n_embd, config.n_vocab)
        is_its = sizes == (self._n_layer, self.hidden.shape[2], self.logits.shape[1])
        if is_its and last in self.layers:
            of_last = self.hidden[self._at(last), -1:]
            is_its = np.array_equal(model._engine.read_out(of_last), self.logits[-1:], equal_nan=True)
        if not is_its:
            raise ValueError(f"{model!r} did not make this trace: its model has the same weights in the same format")
        return replace(self, _engine=model._engine)

    def lens_logits(self, layer: int) -> Floats:
        """The logits (T, V) that the model would give if `layer`, counted from 0 or from the end with -1, were its
        last: its `hidden` through the final norm and the head (nostalgebraist 2020, interpreting GPT: the logit lens).
        ValueError: a layer that was not traced; for all of the lens, a trace without its model, as it was pickled."""
        return self._model_engine().read_out(np.ascontiguousarray(self.hidden[self._at(layer)]))

    def lens(self, top: int = 5) -> Candidates:
        """What each traced layer would say next, (L, T, top): the likeliest of its `lens_logits`."""
        top = integer("top", top, 1, self.logits.shape[1])
        states, engine = self.hidden.reshape(-1, self.hidden.shape[2]), self._model_engine()
        logits = (engine.read_out(states[rows]) for rows in chunks(len(states), self.logits.shape[1]))
        found = candidates(map(engine.log_softmax, logits), top, self._tokenizer)
        shape = (*self.hidden.shape[:2], top)
        return Candidates(found.ids.reshape(shape), found.probabilities.reshape(shape), found.pieces.reshape(shape))

    def plot_attention(self, layer: int, head: int | None = None) -> Figure:
        """A matplotlib figure of a head's map, a row a token that looks, a column one that is looked at; of all heads
        of the layer side by side where no head is named. Both count from 0, or from the end with -1. ValueError: a
        layer or a head that there is not, or a trace without attention; as for every plot, no matplotlib."""
        at = self._at(layer)
        if self.attention is None:
            raise ValueError("the trace has no attention: trace with attention=True")
        n_head = self.attention.shape[1]
        heads = range(n_head) if head is None else [place("head", head, n_head)]
        return trace_plots.attention(self.attention[at, list(heads)], self._names(), self.layers[at], heads)

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

    def _model_engine(self) -> _core.Engine:
        if self._engine is None:
            raise ValueError("the trace was pickled without its model, which the lens asks: with_model gives it back")
        return self._engine

    def _names(self) -> list[str]:
        return names(self._tokenizer, self.ids)

    def _at(self, layer: int) -> int:
        """The place of a layer among those that were traced."""
        layer = place("layer", layer, self._n_layer)
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not traced, only {list(self.layers)}")
        return self.layers.index(layer)


def chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows of so many values, with at most CHUNK values in one that has several rows."""
    step = max(CHUNK // width, 1)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def candidates(log_p: Iterable[Floats], top: int, tokenizer: Tokenizer | None) -> Candidates:
    """Of all rows of log-probabilities (n, V) that come, in one array."""
    ids: list[NDArray[np.int64]] = []
    probabilities: list[Floats] = []
    for rows in log_p:
        for row in rows:
            ids.append(likeliest(row, top))
            probabilities.append(np.exp(row[ids[-1]]))
    shape = (len(ids), top)
    shown = np.array(ids, np.int64).reshape(shape)
    pieces = np.array([piece(token, tokenizer) for token in shown.flat], object).reshape(shape)
    return Candidates(shown, np.array(probabilities, np.float32).reshape(shape), pieces)


def piece(token: int, tokenizer: Tokenizer | None) -> str:
    """A token's text; or its number, where there is no tokenizer, or no text of this id."""
    text = b"" if tokenizer is None else tokenizer.token_bytes(token)
    return text.decode(errors="replace") or str(token)
