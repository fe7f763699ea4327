"""What a person looks at in a browser: a trace as one HTML page that needs nothing else, and as a line of coloured
tokens in a notebook.

The page is the files of trace_page/ and, as JSON, the trace's numbers: no more digits than are shown, packed. Whatever
a model or a text says only ever becomes text: the page's policy allows its own script and style, known by their hashes,
and no connection.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import html
import json
import math
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import pygpt

if TYPE_CHECKING:
    from pygpt.trace import Trace

_FOLDER = Path(__file__).with_name("trace_page")
_SCRIPTS = ("data.js", "text.js", "inspector.js", "heads.js", "lens.js", "main.js")
# What weights of attention are rounded to: whole percents, and two steps below one, which most of the weights are of.
SCALE = (0.0, 0.002, 0.005, *(percent / 100 for percent in range(1, 101)))
_BITS = 1000  # parts of a bit that surprisals and probabilities, as -log2 p, are rounded to, in 16 bits
_UNKNOWN = 2**16 - 1
_HOT = "236, 145, 56"  # a colour that both black and white text are read on, once it is mixed with the other ground
_MOST_BITS = 14.0  # where the colour is at its strongest


def page(trace: Trace, model: str, *, top: int = 5) -> str:
    """One self-contained HTML page of a trace; `model` is what the model is called, `top` how many tokens of the lens
    are shown."""
    style = _read("page.css")
    script = '"use strict";\n' + "\n".join(map(_read, _SCRIPTS))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Within a script element, nothing but "<" can begin what is not data.
    data = json.dumps(contents(trace, model, top=top), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "policy": html.escape(policy),
        "model": html.escape(model),
        "style": style,
        "data": data.encode("utf-8", "replace").decode(),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def contents(trace: Trace, model: str, *, top: int = 5) -> dict[str, Any]:
    """What the page knows, as JSON takes it: `packed` arrays, and texts of tokens by their number in "words"."""
    words = _Words(trace)
    lens_ids, lens_probabilities = trace.lens(top=top)
    next_ids, next_probabilities = trace.alternatives
    return {
        "model": model,
        "version": pygpt.__version__,
        "ids": trace.ids,
        "tokens": words.numbers(np.array(trace.ids)).tolist(),
        "whole": completed(trace),
        "surprisal": packed(_millibits(trace.surprisal)),
        "entropy": packed(_millibits(trace.entropy)),
        "next": {"words": packed(words.numbers(next_ids)), "bits": packed(_of_probabilities(next_probabilities))},
        "layers": list(trace.layers),
        "lens": {"words": packed(words.numbers(lens_ids)), "bits": packed(_of_probabilities(lens_probabilities))},
        "attention": None if trace.attention is None else _attention(trace.attention),
        "words": words.texts,
    }


def packed(array: NDArray[np.generic]) -> dict[str, Any]:
    """An array as its type, its shape, and base64 of its bytes (little-endian) compressed by zlib."""
    data = base64.b64encode(zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(), 6)).decode()
    return {"type": array.dtype.name, "shape": list(array.shape), "data": data}


def unpacked(entry: dict[str, Any]) -> NDArray[Any]:
    """The array that `packed` packed."""
    data = zlib.decompress(base64.b64decode(entry["data"]))
    return np.frombuffer(data, np.dtype(entry["type"]).newbyteorder("<")).reshape(entry["shape"])


def _attention(attention: NDArray[np.float32]) -> dict[str, Any]:
    """Weights (L', H, T, T) as numbers of `SCALE`: for each layer (H, T (T + 1) / 2), key by key those of the queries
    from it on, which are alike, so that zlib finds little that is new."""
    keys, queries = np.triu_indices(attention.shape[-1])
    middles = (np.array(SCALE[1:]) + np.array(SCALE[:-1])) / 2
    layers = (np.searchsorted(middles, layer[:, queries, keys]).astype(np.uint8) for layer in attention)
    return {"scale": list(SCALE), "n_head": attention.shape[1], "layers": [packed(layer) for layer in layers]}


def _of_probabilities(p: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    with np.errstate(divide="ignore"):  # a probability may be 0
        return _millibits(-np.log2(p))


def _millibits(bits: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Thousandths of a bit, as many as 16 bits hold; what is not known is one more."""
    rounded = np.round(np.clip(bits, 0, (_UNKNOWN - 1) / _BITS) * _BITS)
    return np.where(np.isnan(bits), _UNKNOWN, rounded).astype(np.uint16)


class _Words:
    """The texts of tokens, each once. One that is no text by itself, being a part of a character, stands in a list and
    has its bytes as Python writes them."""

    def __init__(self, trace: Trace) -> None:
        self._tokenizer = trace.tokenizer
        self._numbers: dict[int, int] = {}
        self.texts: list[str | list[str]] = []

    def numbers(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
        """The place in `texts` of each id."""
        for i in np.unique(ids).tolist():
            if i not in self._numbers:
                self._numbers[i] = len(self.texts)
                self.texts.append(self._text(i))
        found = [self._numbers[i] for i in ids.ravel().tolist()]
        return np.array(found, np.uint32).reshape(ids.shape)

    def _text(self, token: int) -> str | list[str]:
        if self._tokenizer is None:
            return f"#{token}"
        data = self._tokenizer.token_bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return [data.decode("utf-8", "backslashreplace")]


def completed(trace: Trace) -> dict[int, str]:
    """Of tokens that end a character which others began: the text that each completes, by the token's place."""
    found: dict[int, str] = {}
    if trace.tokenizer is None:
        return found
    decoder, pending = codecs.getincrementaldecoder("utf-8")("replace"), False
    for place, token in enumerate(trace.ids):
        text = decoder.decode(trace.tokenizer.token_bytes(token))
        if pending and text:
            found[place] = text
        pending = bool(decoder.getstate()[0])
    return found


def tokens(trace: Trace) -> str:
    """The tokens as HTML that needs no script: each in a colour by its surprisal, with its numbers as a hint."""
    whole = completed(trace)
    spans = [_span(trace, place, whole.get(place)) for place in range(len(trace.ids))]
    surprisal = np.asarray(trace.surprisal, np.float64)
    mean = f"{np.nanmean(surprisal):.2f} bits a token" if len(trace.ids) > 1 else "one token"
    return (
        '<div style="line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere">' + "".join(spans) + "</div>"
        f'<div style="opacity: 0.7; font-size: 85%">{len(trace.ids)} tokens, {mean}; the stronger the colour, the more '
        "surprising</div>"
    )


def _span(trace: Trace, place: int, whole: str | None) -> str:
    bits = float(trace.surprisal[place])
    shown = visible(whole if whole is not None else trace.pieces[place])
    says = f"token {place}, id {trace.ids[place]}"
    if not math.isnan(bits):
        says += f": {bits:.2f} bits, probability {2.0**-bits:.2%}"
    strength = 0.0 if math.isnan(bits) else min(bits / _MOST_BITS, 1.0) * 0.75
    style = f"background: rgba({_HOT}, {strength:.2f}); border-radius: 3px; unicode-bidi: isolate"
    return f'<span style="{style}" title="{html.escape(says)}">{html.escape(shown)}</span>'


# Controls, marks that turn the direction of writing, and what is not a character by itself: written by their numbers.
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def visible(text: str) -> str:
    """A text with its line ends marked, and what is not seen written by its number."""
    return _UNSEEN.sub(lambda found: f"⟨{ord(found[0]):04X}⟩", text).replace("\n", "↵\n")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def labels(trace: Trace, ids: Iterable[int]) -> list[str]:
    """Each token's text in one line, spaces to be seen; a part of a character by its bytes."""
    words = _Words(trace)
    places = words.numbers(np.fromiter(ids, np.int64))
    texts = (words.texts[place] for place in places.tolist())
    return [visible(text if isinstance(text, str) else text[0]).replace("\n", "").replace(" ", "␣") for text in texts]
