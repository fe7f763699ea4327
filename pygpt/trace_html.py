"""What a person looks at in a browser: a trace as one HTML page that needs nothing else, and as a line of coloured
tokens in a notebook.

The page is the files of trace_page/ and, as JSON, the trace's numbers: no more digits than are shown, packed. Whatever
a model or a text says only ever becomes text: the page's policy allows its own script and style, known by their hashes,
and no connection.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.tokenizer import Tokenizer
from pygpt.trace_text import completed, text_of, visible

if TYPE_CHECKING:
    from pygpt.trace import Candidates, Trace

_FOLDER = Path(__file__).with_name("trace_page")
_SCRIPTS = ("data.js", "text.js", "inspector.js", "heads.js", "lens.js", "main.js")
# What weights of attention are rounded to: whole percents, and two steps below one, where most of the weights are.
SCALE = (0.0, 0.002, 0.005, *(percent / 100 for percent in range(1, 101)))
MILLIBITS = 1000  # in a bit: what surprisals, and probabilities as -log2 p, are rounded to, in 16 bits
UNKNOWN = 2**16 - 1
_HOT = "236, 145, 56"  # on which black and white text are read, once it is mixed with the other's ground
_MOST_BITS = 14.0  # where the colour is at its strongest


def page(trace: Trace, tokenizer: Tokenizer | None, model: str, top: int) -> str:
    """One self-contained HTML page of a trace; `model` is what the model is called, `top` how many tokens of the lens
    are shown for each layer."""
    style = _read("page.css")
    script = '"use strict";\n' + "\n".join(map(_read, _SCRIPTS))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(contents(trace, tokenizer, model, top), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "policy": html.escape(policy),
        "model": html.escape(visible(model)),
        "style": style,
        "data": _of_script(data),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def contents(trace: Trace, tokenizer: Tokenizer | None, model: str, top: int) -> dict[str, Any]:
    """What the page knows, as JSON takes it: `packed` arrays, and texts of tokens by their place in "words"."""
    words = _Words(tokenizer)
    maps = trace.attention if trace.layers else None
    return {
        "model": model,
        "version": _core.build_info()["version"],
        "ids": list(trace.ids),
        "tokens": words.places(np.array(trace.ids)).tolist(),
        "whole": completed(tokenizer, trace.ids),
        "surprisal": packed(_millibits(trace.surprisal)),
        "entropy": packed(_millibits(trace.entropy)),
        "next": _candidates(trace.alternatives, words),
        "layers": list(trace.layers),
        "lens": _candidates(trace.lens(top), words) if trace.layers else None,
        "attention": None if maps is None else _attention(maps),
        "words": words.texts,
    }


def packed(array: NDArray[np.generic]) -> dict[str, Any]:
    """An array as its type, its shape, and base64 of its bytes (little-endian) compressed by zlib."""
    data = base64.b64encode(zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(), 6)).decode()
    return {"type": array.dtype.name, "shape": list(array.shape), "data": data}


def _candidates(found: Candidates, words: _Words) -> dict[str, Any]:
    with np.errstate(divide="ignore"):  # a probability may be 0; one that is not known is shown as that
        bits = -np.log2(np.nan_to_num(found.probabilities))
    return {"words": packed(words.places(found.ids)), "bits": packed(_millibits(bits))}


def _attention(attention: NDArray[np.float32]) -> dict[str, Any]:
    """Weights (L, H, T, T) as places in `SCALE`: for each layer (H, T (T + 1) / 2), key by key those of the queries
    from it on, which are alike, so that zlib finds little that is new. NaN is shown as no weight."""
    keys, queries = np.triu_indices(attention.shape[-1])
    middles = (np.array(SCALE[1:], np.float32) + np.array(SCALE[:-1], np.float32)) / 2
    weights = (np.nan_to_num(layer[:, queries, keys], copy=False) for layer in attention)
    layers = (np.searchsorted(middles, layer).astype(np.uint8) for layer in weights)
    return {"scale": list(SCALE), "n_head": attention.shape[1], "layers": [packed(layer) for layer in layers]}


def _millibits(bits: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """As many as 16 bits hold; what is not known is the greatest number."""
    known = ~np.isnan(bits)
    rounded = np.round(np.clip(np.where(known, bits, 0.0), 0.0, (UNKNOWN - 1) / MILLIBITS) * MILLIBITS)
    return np.where(known, rounded, UNKNOWN).astype(np.uint16)


class _Words:
    """The texts of tokens, each once; one that is no text by itself stands in a list."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._places: dict[int, int] = {}
        self.texts: list[str | list[str]] = []

    def places(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
        """Where in `texts` the text of each id is."""
        distinct, inverse = np.unique(ids, return_inverse=True)
        for token in distinct.tolist():
            if token not in self._places:
                self._places[token] = len(self.texts)
                text, is_text = text_of(self._tokenizer, token)
                self.texts.append(text if is_text else [text])
        return np.array([self._places[token] for token in distinct.tolist()], np.uint32)[inverse].reshape(ids.shape)


def tokens(trace: Trace, tokenizer: Tokenizer | None) -> str:
    """The tokens as HTML that needs no script: each in a colour by its surprisal, with its numbers as a hint."""
    whole = completed(tokenizer, trace.ids)
    spans = []
    for place, token in enumerate(trace.ids):
        text, is_text = (whole[place], True) if place in whole else text_of(tokenizer, token)
        spans.append(_span(text, is_text, f"token {place}, id {token}", float(trace.surprisal[place])))
    known = [bits for bits in trace.surprisal.tolist() if not math.isnan(bits)]
    mean = f", {sum(known) / len(known):.2f} bits each" if known else ""
    return (
        f'<div style="line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere">{"".join(spans)}</div>'
        f'<div style="opacity: 0.75; font-size: 85%">{len(trace.ids)} tokens{mean}; '
        "the stronger the colour, the more surprising</div>"
    )


def _span(text: str, is_text: bool, says: str, bits: float) -> str:
    """A token; the space before a word has no colour, and bytes are small."""
    strength = 0.0
    if not math.isnan(bits):
        says += f": {bits:.2f} bits, probability {2.0**-bits:.2%}"
        strength = min(bits / _MOST_BITS, 1.0) * 0.75
    style = f"background: rgba({_HOT}, {strength:.2f}); border-radius: 3px; unicode-bidi: isolate"
    style += "" if is_text else "; font-size: 65%"
    space = " " if text[:1] == " " and len(text) > 1 else ""
    shown = html.escape(visible(text[len(space) :]).replace("\n", "↵\n"))
    return f'{space}<span style="{style}" title="{says}">{shown}</span>'


def _of_script(text: str) -> str:
    """JSON for a script element, which no text within it can end or turn into another; lone surrogates, which UTF-8
    cannot hold, become question marks."""
    return text.replace("<", "\\u003c").encode("utf-8", "replace").decode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
