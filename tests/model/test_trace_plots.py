"""The figures of a trace: what they show is what the trace says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pygpt import Model, Trace

TEXT = "The $cat$ sat_on the\n你"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Model.load("tiny", threads=1).trace(TEXT, layers=[1, 4], attention=True)


def test_attention_of_one_head(trace: Trace) -> None:
    assert trace.attention is not None
    figure = trace.plot_attention(4, head=2)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), trace.attention[1, 2])
    assert axes.get_title() == "layer 4, head 2"
    assert trace.plot_attention(-2, head=-2).axes[0].get_title() == "layer 4, head 2"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "".join(names).startswith("The␣$cat$␣sat_on␣the↵")
    assert len(names) == len(trace.ids)
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())


def test_attention_of_all_heads(trace: Trace) -> None:
    assert trace.attention is not None
    figure = trace.plot_attention(1)
    maps = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in maps] == [f"layer 1, head {head}" for head in range(4)]
    for axes, weights in zip(maps, trace.attention[0], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), weights)


def test_the_lens(trace: Trace) -> None:
    axes = trace.plot_lens().axes[0]
    best = trace.lens(top=1)
    np.testing.assert_array_equal(axes.images[0].get_array(), best.probabilities[..., 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "4"]
    assert len(axes.texts) == best.ids.size


def test_surprisal(trace: Trace) -> None:
    axes = trace.plot_surprisal().axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights[1:], trace.surprisal[1:])
    assert heights[0] == 0
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), trace.entropy[:-1])


def test_they_are_drawn_without_pyplot_also_in_a_notebook(trace: Trace) -> None:
    """Whatever the text: a warning of a character without a glyph would fail this test."""
    had_pyplot = "matplotlib.pyplot" in sys.modules
    for figure in (trace.plot_attention(1), trace.plot_lens(), trace.plot_surprisal()):
        png = figure._repr_png_()  # type: ignore[attr-defined]
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


def test_one_token_and_many(trace: Trace) -> None:
    model = Model.load("tiny", threads=1)
    one = model.trace("a", attention=True)
    many = model.trace(np.arange(200), layers=[0], attention=True)
    for figure in (
        one.plot_surprisal(),
        one.plot_lens(),
        one.plot_attention(0),
        many.plot_lens(),
        many.plot_surprisal(),
    ):
        assert len(figure._repr_png_()) > 1000  # type: ignore[attr-defined]
    assert len(many.plot_lens().axes[0].texts) == 0


def test_what_is_not_there_is_named(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="layer 0 was not traced"):
        trace.plot_attention(0)
    with pytest.raises(ValueError, match="head 4 is outside 0 to 3"):
        trace.plot_attention(1, head=4)
    model = Model.load("tiny", threads=1)
    with pytest.raises(ValueError, match="attention=True"):
        model.trace("a b").plot_attention(0)
    with pytest.raises(ValueError, match="no layers"):
        model.trace("a b", layers=[]).plot_lens()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pygpt-cpu\[plot\]"):
        trace.plot_surprisal()
