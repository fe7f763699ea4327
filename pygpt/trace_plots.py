"""Figures of a trace, by matplotlib, which is imported when one is drawn. No choice of a backend is made for the
process: a notebook shows them all the same, and ``figure.savefig("x.png")`` writes one."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt.trace_text import line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pygpt.trace import Candidates

Floats = NDArray[np.float32]

_NAMED = 64  # the most tokens that are written along an axis
_MOST_LETTERS = 14  # of a token that is
# Beside matplotlib's own font, those that many systems have and that hold what it lacks.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC"),
    *("Hiragino Sans", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji"),
)


def attention(weights: Floats, names: Sequence[str], layer: int, heads: Sequence[int]) -> Figure:
    """Maps of the heads with these numbers, (len(heads), T, T): a row a token that looks, a column one looked at."""
    columns = min(len(heads), 4)
    rows = -(-len(heads) // columns)
    side = 6.5 if len(heads) == 1 else 3.2
    figure = _figure(side * columns + 0.8, side * rows + 0.4)
    for place, (head, one) in enumerate(zip(heads, weights, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        image = axes.imshow(one, cmap="Greens", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set_title(f"layer {layer}, head {head}", fontsize=10)
        many = len(names) > (_NAMED if len(heads) == 1 else _NAMED // 3)
        for axis, rotation in ((axes.xaxis, 90.0), (axes.yaxis, 0.0)):
            _name_ticks(axis, [] if many else names, rotation)
        if place % columns == 0:
            axes.set_ylabel("looks")
        if place + columns >= len(heads):
            axes.set_xlabel("is looked at")
    figure.colorbar(image, ax=figure.axes, label="weight", shrink=0.8 if rows < 3 else 0.4)
    return figure


def lens(found: Candidates, names: Sequence[str], layers: Sequence[int]) -> Figure:
    """What each layer would say next after each token: found.pieces (L, T, 1), coloured by their probability."""
    n_layer, n_token, _ = found.ids.shape
    figure = _figure(_width(n_token, 0.75), 0.32 * n_layer + 1.9)
    axes = figure.add_subplot()
    p = found.probabilities[..., 0]
    image = axes.imshow(p, cmap="Greens", vmin=0.0, vmax=1.0, aspect="auto", origin="lower", interpolation="nearest")
    if n_token <= _NAMED:
        for (layer, token), shown in np.ndenumerate(found.pieces[..., 0]):
            ink = "white" if p[layer, token] > 0.6 else "black"
            axes.text(token, layer, _drawable(line(shown)), ha="center", va="center", fontsize=7, color=ink, **_text())
    _name_ticks(axes.xaxis, names if n_token <= _NAMED else [], 90.0)
    axes.set_yticks(range(n_layer), [str(layer) for layer in layers])
    axes.set_xlabel("after the token")
    axes.set_ylabel("layer")
    axes.set_title("The likeliest next token, by layer", fontsize=10)
    figure.colorbar(image, ax=axes, label="probability")
    return figure


def surprisal(bits: Floats, entropy: Floats, names: Sequence[str]) -> Figure:
    """The surprisal of each token (T,) as bars; as a line what was expected, the entropy of what was foretold."""
    n_token = len(bits)
    figure = _figure(_width(n_token, 0.3), 3.8)
    axes = figure.add_subplot()
    places = np.arange(n_token)
    axes.bar(places, np.nan_to_num(bits), color="#ec9138", label="surprisal")
    # What was foretold of a token is what the one before it says.
    axes.plot(places[1:], entropy[:-1], "o-", color="#1c5f50", markersize=3, linewidth=1, label="entropy before it")
    _name_ticks(axes.xaxis, names if n_token <= 2 * _NAMED else [], 90.0)
    axes.set_xlim(-0.7, n_token - 0.3)
    axes.set_ylabel("bits")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure


def _width(n_token: int, each: float) -> float:
    """Inches of an axis of tokens."""
    return min(max(each * n_token, 4.0), 36.0) + 1.5


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError('plots need matplotlib: pip install "pygpt-cpu[plot]"') from None

    class Shown(Figure):
        """One that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=100)
            return file.getvalue()

    figure = Shown(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _name_ticks(axis: Any, names: Sequence[str], rotation: float) -> None:
    """A tick a token with its text; without any, matplotlib's own numbers."""
    if names:
        axis.set_ticks(range(len(names)))
        short = (name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…" for name in names)
        axis.set_ticklabels([_drawable(name) for name in short], rotation=rotation, fontsize=8, **_text())


def _text() -> dict[str, Any]:
    """How a token's text is written: a dollar is one, and no mathematics."""
    return {"fontfamily": [name for name, _ in _fonts()], "parse_math": False}


@functools.lru_cache(maxsize=1)
def _fonts() -> list[tuple[str, frozenset[int]]]:
    """Those of `_FONTS` that are installed, and the characters that each has."""
    from matplotlib import font_manager

    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    files = [(name, installed[name]) for name in _FONTS if name in installed]
    return [(name, frozenset(font_manager.get_font(file).get_charmap())) for name, file in files]


def _drawable(text: str) -> str:
    """A text with characters that no font has as their numbers."""
    return "".join(c if any(ord(c) in known for _, known in _fonts()) else f"⟨{ord(c):04X}⟩" for c in text)
