"""What `Trace` says about tokens, what it refuses, and the memory that it takes."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model, Site, _core, trace, tracing
from pygpt.generation.logprobs import likeliest
from pygpt.information import entropy, log_softmax, surprisal

TEXT = "Once upon a time there was a"


def test_entropy_and_surprisal_of_known_distributions() -> None:
    p = np.array([[0.5, 0.25, 0.125, 0.125], [0.25] * 4, [1.0, 1e-300, 1e-300, 1e-300]])
    log_p = log_softmax(np.log(p) + 700.0)
    np.testing.assert_allclose(entropy(log_p), [1.75, 2.0, 0.0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(surprisal(log_p, [2, 0, 1]), [3.0, 2.0, 300 / np.log10(2)], rtol=1e-12)


def test_surprisal_is_minus_the_score_in_bits(model: Model) -> None:
    seen = model.trace(TEXT)
    assert np.isnan(seen.surprisal[0])
    np.testing.assert_allclose(seen.surprisal[1:], -model.score(TEXT) / np.log(2), rtol=1e-6)
    p = np.exp(log_softmax(seen.logits.astype(np.float64)))
    np.testing.assert_allclose(seen.entropy, -(p * np.log2(p)).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 700, 1 << 22])
def test_statistics_do_not_depend_on_the_chunks(model: Model, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    expected = model.trace(TEXT)
    monkeypatch.setattr(trace, "CHUNK", chunk)
    found = model.trace(TEXT)
    for name in ("entropy", "surprisal"):
        assert np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=True)
    assert np.array_equal(found.alternatives.probabilities, expected.alternatives.probabilities)
    assert np.array_equal(found.lens().probabilities, expected.lens().probabilities)


def test_alternatives_and_the_lens_are_the_likeliest_tokens(model: Model) -> None:
    seen = model.trace(TEXT, top=3)
    for layer, found in ((1, seen.lens(3)), (None, seen.alternatives)):
        logits = seen.logits if layer is None else seen.lens_logits(layer)
        ids, probabilities = (a if layer is None else a[layer] for a in (found.ids, found.probabilities))
        assert np.array_equal(ids, np.argsort(-logits, axis=1, kind="stable")[:, :3])
        p = np.exp(log_softmax(logits.astype(np.float64)))
        np.testing.assert_allclose(probabilities, np.take_along_axis(p, ids, axis=1), rtol=1e-6)
    shown = [model.tokenizer.token_bytes(i).decode(errors="replace") for i in seen.alternatives.ids[0].tolist()]
    assert seen.alternatives.pieces[0].tolist() == shown
    assert np.array_equal(seen.lens(2).ids[-1], seen.alternatives.ids[:, :2])


def test_pieces_are_the_text(model: Model) -> None:
    seen = model.trace("é was here")
    assert seen.pieces[:2] == ("\ufffd", "\ufffd")  # of a character in two tokens
    assert "".join(seen.pieces[2:]) == " was here"
    assert list(seen.ids) == model.tokenizer.encode("é was here")
    assert repr(seen) == f"<pygpt.Trace of {len(seen.ids)} tokens, layers [0, 1]>"
    config = model.config
    tensors = {name: np.ones(shape, np.float32) for name, shape in config.tensor_shapes().items()}
    assert Model.from_tensors(config, tensors).trace([5, 17], top=1).pieces == ("5", "17")  # nothing decodes them


def test_a_pass_that_overflows_can_be_looked_at(model: Model) -> None:
    """Where numbers become NaN is what somebody may want to see: nothing is likelier than anything else then."""
    seen = model.trace(TEXT, patch={Site("hidden", 0): 3e38}, top=3)
    assert np.isfinite(seen.hidden[0]).all()
    assert np.isnan(seen.logits).all()
    for found in (seen.alternatives, seen.lens(3)):
        assert found.ids[-1].ravel().tolist()[:3] == [0, 1, 2]
        assert np.isnan(found.probabilities[-1]).all()
    assert np.isnan(seen.entropy).all()
    assert "nan" not in seen.html() + seen._repr_html_()
    seen = model.trace([1, 2, 3], attention=True, patch={Site("queries", 0): 3e38, Site("keys", 0): -3e38})
    assert seen.attention is not None
    assert np.isnan(seen.attention[0]).all()


def test_nan_is_the_least_likely() -> None:
    scores = np.array([np.nan, -2.0, np.nan, -1.0], np.float32)
    assert likeliest(scores, 3).tolist() == [3, 1, 0]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "value", "message"),
    [
        (Site("hidden", 0), np.zeros((3, 32)), "must have the shape (13, 32), not (3, 32)"),
        (Site("heads", 1, 0), np.zeros((13, 32)), "must have the shape (13, 16), not (13, 32)"),
        (Site("heads", 1), np.zeros((13, 32)), "must have the shape (2, 13, 16), not (13, 32)"),
        (Site("heads", 1, tokens=3), np.zeros((13, 16)), "must have the shape (2, 16), not (13, 16)"),
        (Site("neurons", 0, 5), np.zeros(12), "must have the shape (13,), not (12,)"),
        (Site("embedding", tokens=[1, 2]), np.zeros((3, 32)), "must have the shape (2, 32), not (3, 32)"),
        (Site("hidden", 0, tokens=-1), np.zeros(31), "must have the shape (32,), not (31,)"),
        (Site("hidden", 0), [[1.0], [1.0, 2.0]], "must have the shape (13, 32)"),
        (Site("hidden", 0), np.nan, "must be finite numbers"),
        (Site("hidden", 0), 1e39, "must be finite numbers"),
        (Site("hidden", 2), 0.0, "layer 2 is outside 0 to 1, or -2 to -1 from the end"),
        (Site("hidden", -3), 0.0, "layer -3 is outside 0 to 1, or -2 to -1 from the end"),
        (Site("heads", 0, 2), 0.0, "index 2 is outside 0 to 1, or -2 to -1 from the end"),
        (Site("neurons", 0, 128), 0.0, "index 128 is outside 0 to 127"),
        (Site("hidden", 0, tokens=13), 0.0, "token 13 is outside 0 to 12"),
        (Site("hidden", 0, tokens=[0, -14]), 0.0, "token -14 is outside 0 to 12"),
    ],
)
def test_a_patch_that_does_not_fit_says_what_would(model: Model, site: Site, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        model.trace([1] * 13, patch={site: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mlp", 0), "a site must be one of embedding, queries"),
        (("hidden",), "hidden needs a layer"),
        (("embedding", 0), "the embedding has no layer"),
        (("hidden", 0, 1), "hidden has no heads and no neurons, so index must be None, not 1"),
    ],
)
def test_a_site_that_is_none(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Site(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [("heads", 0.5), ("heads", 0, "1"), ("heads", 0, 1, "12"), ("heads", 0, 1, [True]), ("heads", 0, 1, [[1], [1, 2]])],
)
def test_a_site_counts_in_integers(arguments: Any) -> None:
    with pytest.raises(TypeError, match="must be an integer"):
        Site(*arguments)


def test_a_patch_of_another_type(model: Model) -> None:
    with pytest.raises(TypeError, match="must be a number or an array of them, not 'a'"):
        model.trace(TEXT, patch={Site("hidden", 0): "a"})
    with pytest.raises(TypeError, match="a key of patch must be of type Site, not str"):
        model.trace(TEXT, patch={"hidden": 0.0})  # type: ignore[dict-item]


def test_experts_have_no_neurons_that_all_tokens_share(cores) -> None:
    tokens, config = cores.ids("experts", 5), cores.configs["experts"]
    options: Any = {"layers": None, "attention": False, "top": 1}
    with pytest.raises(ValueError, match="layer 0 is a mixture of experts"):
        tracing.trace(cores.engine("experts"), config, None, tokens, patch={Site("neurons", 0): 0.0}, **options)


def test_layers_and_tops_that_are_none(model: Model) -> None:
    for options, message in (
        ({"layers": [2]}, "layer 2 is outside 0 to 1, or -2 to -1 from the end"),
        ({"layers": [1, -1]}, r"layers must differ from each other, not \[1, 1\]"),
        ({"top": 0}, "top must be an integer from 1 to"),
        ({"top": model.config.n_vocab + 1}, "top must be an integer from 1 to"),
    ):
        with pytest.raises(ValueError, match=message):
            model.trace(TEXT, **options)  # type: ignore[arg-type]
    for layers in (np.array(1), "1", 1):
        with pytest.raises(TypeError, match="layers must be a sequence of integers, not"):
            model.trace(TEXT, layers=layers)  # type: ignore[arg-type]
    first = model.trace(TEXT, layers=[0], attention=True)
    for layer in (1, -1):
        with pytest.raises(ValueError, match=r"layer 1 was not traced, only \[0\]"):
            first.lens_logits(layer)
    for layer in (2, -3):
        with pytest.raises(ValueError, match=f"layer {layer} is outside 0 to 1, or -2 to -1 from the end"):
            first.plot_attention(layer)
    with pytest.raises(ValueError, match="head -3 is outside 0 to 1, or -2 to -1 from the end"):
        first.plot_attention(0, -3)
    with pytest.raises(TypeError, match="layer must be an integer, not True"):
        first.lens_logits(True)
    with pytest.raises(pygpt.errors.ContextOverflowError):
        model.trace([1] * 100)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_trace_longer_than_memory_says_how_much_it_needs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "available_memory", lambda: 100_000)
    needed = tracing.n_bytes(model.config, 60, (0, 1), True, 5) + model._engine.cache_bytes(60)
    message = f"a trace of 60 tokens in 2 layers with attention needs {needed / 2**20:.1f} MiB of memory, and 0.1 MiB"
    with pytest.raises(ValueError, match=message):
        model.trace([1] * 60, attention=True)
    monkeypatch.setattr(_core, "available_memory", lambda: needed)
    model.trace([1] * 60, attention=True)
    monkeypatch.setattr(_core, "available_memory", lambda: None)
    model.trace([1] * 60, attention=True)


@pytest.mark.parametrize("attention", [False, True])
def test_it_takes_no_more_memory_than_it_says(monkeypatch: pytest.MonkeyPatch, attention: bool) -> None:
    model = Model.load("tiny", threads=1)
    for module in (trace, tracing):
        monkeypatch.setattr(module, "CHUNK", 4 * model.config.n_vocab)
    tokens, layers = list(range(200)), range(model.config.n_layer)
    model.trace(tokens, attention=attention)  # what is made once
    tracemalloc.start()
    try:
        seen = model.trace(tokens, attention=attention)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    arrays = sum(array.nbytes for array in vars(seen).values() if isinstance(array, np.ndarray))
    assert arrays < peak <= tracing.n_bytes(model.config, len(tokens), layers, attention, 5) < 1.2 * peak
