"""`Model.trace`: equal bits where they must be, and the reference's numbers within rounding."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pygpt
from pygpt import Model, Site, _core, checkpoint, reference, sites
from pygpt.tracing import trace

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
UNIT = 2.0**-24  # the largest relative error of a rounding to float32
TEXT = "Once upon a time there was a"


def golden_model(golden: Path) -> tuple[pygpt.ModelConfig, Any, NDArray[np.int64], Model]:
    with np.load(golden / "expected.npz") as arrays:
        ids = arrays["ids"]
    config, tensors, _ = checkpoint.read(golden, n_ctx=len(ids))
    return config, tensors, ids, Model.load(golden, weights="float32", n_ctx=len(ids), threads=1)


def with_bounds(config: pygpt.ModelConfig, tensors: Any, ids: Any, **options: Any) -> Iterable[tuple[str, Any, float]]:
    """The arrays of the reference's trace, and how far rounding may take each of them: see `rounding_bound` in
    test_parity.py, whose argument holds for all that is computed on the way. One rounding to float32 comes on top."""
    longest = max(config.n_embd, config.n_inner, config.n_head * config.head_dim, len(ids))
    gamma = longest * UNIT / (1.0 - longest * UNIT)
    exact = reference.trace(config, tensors, ids, attention=True, **options)
    rng, largest = np.random.default_rng(0), dict.fromkeys(exact, 0.0)
    for _ in range(4):
        moved = {}
        for name in config.tensor_shapes():
            values = np.asarray(tensors[name], np.float64)
            moved[name] = values * (1.0 + gamma * rng.choice((-1.0, 1.0), size=values.shape))
        for name, array in reference.trace(config, moved, ids, attention=True, **options).items():
            largest[name] = max(largest[name], float(np.nanmax(np.abs(array - exact[name]))))
    for name, array in exact.items():
        yield name, array, largest[name] + UNIT * float(np.nanmax(np.abs(array)))


def check(found: pygpt.Trace, expected: Iterable[tuple[str, Any, float]]) -> None:
    names = set()
    for name, exact, bound in expected:
        array = getattr(found, name)
        assert array.dtype == np.float32
        assert array.shape == exact.shape
        assert np.array_equal(np.isnan(array), np.isnan(exact))
        assert np.nanmax(np.abs(array - exact)) <= bound, name
        assert bound < 1e-2 * np.nanmax(np.abs(exact))
        names.add(name)
    assert names | {"neurons"} == {*sites.NAMES, "attention", "logits", "entropy", "surprisal"}
    assert ("neurons" in names) == (found.neurons is not None)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.name)
def test_every_array_is_the_references(golden: Path) -> None:
    config, tensors, ids, model = golden_model(golden)
    found = model.trace(ids, attention=True)
    check(found, with_bounds(config, tensors, ids))
    assert np.array_equal(found.logits, model.logits(ids))
    assert np.array_equal(found.lens_logits(config.n_layer - 1), found.logits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_references_arrays_are_of_the_type_asked_for(dtype: Any) -> None:
    config, tensors, ids, _ = golden_model(GOLDENS[0])
    found = reference.trace(config, tensors, ids[:1], attention=True, dtype=dtype)
    assert {name: array.dtype for name, array in found.items()} == dict.fromkeys(found, np.dtype(dtype))


def some_patches(config: pygpt.ModelConfig, n_token: int) -> dict[Site, Any]:
    """One of every kind of site, in layers that differ."""
    rng = np.random.default_rng(3)
    last, dense = config.n_layer - 1, [i for i, layer in enumerate(config.layers) if layer.experts is None]
    patch: dict[Site, Any] = {
        Site("embedding", tokens=2): rng.normal(size=config.n_embd),
        Site("queries", 0, config.n_head - 1, tokens=[1, -2]): rng.normal(size=(2, config.head_dim)),
        Site("keys", 0): rng.normal(size=(config.n_kv_head, n_token, config.head_dim)),
        Site("values", last, 0, tokens=3): 0.5,
        Site("heads", -1, 0): 0.0,
        Site("heads", 0, tokens=-1): rng.normal(size=(config.n_head, config.head_dim)),
        Site("attention_out", 0, tokens=range(3)): rng.normal(size=(3, config.n_embd)),
        Site("after_attention", last, tokens=4): rng.normal(size=config.n_embd),
        Site("mlp_out", last, tokens=[5]): rng.normal(size=config.n_embd),
        Site("hidden", 0, tokens=0): rng.normal(size=config.n_embd),
    }
    for layer in dense[:1]:
        patch[Site("neurons", layer, config.n_inner - 1)] = 0.25
        patch[Site("neurons", layer, tokens=1)] = rng.normal(size=config.n_inner)
    return patch


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.name)
def test_patches_are_the_references(golden: Path) -> None:
    config, tensors, ids, model = golden_model(golden)
    patch = some_patches(config, len(ids))
    found = model.trace(ids, attention=True, patch=patch)
    check(found, with_bounds(config, tensors, ids, patch=patch))
    assert not np.array_equal(found.logits, model.logits(ids))


# --- equal bits -------------------------------------------------------------------------------------------------------


def traced(engine: _core.Engine, config: pygpt.ModelConfig, tokens: Any, **options: Any) -> pygpt.Trace:
    defaults = {"layers": None, "attention": False, "top": 2, "patch": None}
    return trace(engine, config, None, tokens, **(defaults | options))


CONFIGS = ["gpt2", "parallel", "one norm", "post-norm", "sandwich", "scaled", "narrow", "wide", "windows", "experts"]


@pytest.mark.parametrize("name", CONFIGS)
def test_looking_changes_nothing(cores, name: str, formats: tuple[str, str]) -> None:
    """The logits are the same bits, those of the last state as well, in every format; and what is seen does not depend
    on threads. 300 tokens are two steps."""
    config, tokens, engine = cores.configs[name], cores.ids(name, 300), cores.engine(name, *formats, 2)
    expected = cores.logits(engine, tokens)
    found = traced(engine, config, tokens)
    assert cores.same(found.logits, expected)
    assert cores.same(found.lens_logits(config.n_layer - 1), expected)
    assert cores.same(cores.logits(engine, tokens), expected)
    alone = traced(cores.engine(name, *formats, 1), config, tokens)
    for site in sites.NAMES:
        assert np.array_equal(getattr(found, site), getattr(alone, site), equal_nan=True), site


@pytest.mark.parametrize("name", ["llama", "scaled", "experts", "parallel"])
def test_what_is_seen_does_not_depend_on_the_instruction_set(cores, name: str) -> None:
    config, tokens = cores.configs[name], cores.ids(name, 40)
    expected = traced(cores.engine(name, "int8", "int8", 1, "scalar"), config, tokens)
    for isa in _core.isa_names():
        found = traced(cores.engine(name, "int8", "int8", 1, isa), config, tokens)
        for site in (*sites.NAMES, "logits"):
            assert np.array_equal(getattr(found, site), getattr(expected, site), equal_nan=True), (isa, site)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_there_put_in_its_place_changes_nothing(cores, name: str) -> None:
    config, tokens, engine = cores.configs[name], cores.ids(name, 40), cores.engine(name, "int8", "float16")
    found = traced(engine, config, tokens)
    for site in sites.NAMES:
        for i in [None] if site == "embedding" else range(config.n_layer):
            if site == "neurons" and config.layers[i].experts:
                continue
            there = found.embedding if i is None else getattr(found, site)[i]
            again = traced(engine, config, tokens, layers=[], patch={Site(site, i): there})
            if site in ("attention_out", "mlp_out") and config.branch_scale != 1.0:  # scaled in a rounding of its own
                np.testing.assert_allclose(again.logits, found.logits, rtol=0, atol=1e-4)
            else:
                assert cores.same(again.logits, found.logits), (site, i)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_state_of_another_prompt_gives_its_logits(cores, name: str) -> None:
    """Activation patching of the whole stream: from there on the other prompt is computed."""
    config, engine = cores.configs[name], cores.engine(name, "int8", "float16")
    one, other = (traced(engine, config, cores.ids(name, 30, seed)) for seed in (1, 2))
    for layer in range(config.n_layer):
        moved = traced(engine, config, np.array(one.ids, np.int32), patch={Site("hidden", layer): other.hidden[layer]})
        assert cores.same(moved.logits, other.logits)
        assert np.array_equal(moved.hidden[layer:], other.hidden[layer:])
        assert np.array_equal(moved.hidden[:layer], one.hidden[:layer])


def test_an_ablated_head_is_one_without_weights(cores) -> None:
    config = cores.configs["llama"]
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in config.tensor_shapes().items()}
    ids, d = cores.ids("llama", 20), config.head_dim
    ablated = Model.from_tensors(config, tensors, weights="float32").trace(ids, patch={Site("heads", 1, 4): 0.0})
    tensors["blocks.1.attn.out.weight"][:, 4 * d : 5 * d] = 0.0
    without = Model.from_tensors(config, tensors, weights="float32")
    assert cores.same(ablated.logits, without.logits(ids))
    tensors["blocks.0.mlp.down.weight"][:, 7] = 0.0
    off = without.trace(ids, patch={Site("neurons", 0, 7): 0.0})
    assert cores.same(off.logits, Model.from_tensors(config, tensors, weights="float32").logits(ids))


def test_what_is_put_in_is_what_is_added(cores) -> None:
    config, tokens = cores.configs["scaled"], cores.ids("scaled", 10)  # branches are scaled by 0.5 otherwise
    added = np.random.default_rng(0).normal(size=(10, config.n_embd)).astype(np.float32)
    found = traced(cores.engine("scaled"), config, tokens, patch={Site("attention_out", 0): added})
    assert np.array_equal(found.attention_out[0], added)
    assert np.array_equal(found.after_attention[0], found.embedding + added)


@pytest.mark.parametrize("of", [Model.trace, pygpt.Trace], ids=["Model.trace", "Trace"])
def test_the_examples_of_the_docstrings_run(of: Any) -> None:
    lines = inspect.cleandoc(of.__doc__).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.endswith("::")) + 2
    code = "\n".join(itertools.takewhile(str.strip, lines[begin:]))
    model = Model.load("tiny", threads=1)
    exec(inspect.cleandoc("\n" + code), {"Model": Model, "Site": Site, "model": model})


def test_layers_are_those_asked_for(model: Model) -> None:
    whole = model.trace(TEXT, attention=True)
    last = model.config.n_layer - 1
    some = model.trace(TEXT, layers=[-1, 0], attention=True)
    assert some.layers == (last, 0)
    for name in (*sites.NAMES[1:], "attention"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[[last, 0]]), name
    assert np.array_equal(some.lens_logits(0), whole.lens_logits(0))
    assert np.array_equal(some.lens_logits(-1), whole.logits)  # the last of the model, not of those that were traced
    assert np.array_equal(some.lens_logits(-1 - last), whole.lens_logits(0))
    none = model.trace(TEXT, layers=[])
    assert none.hidden.shape == (0, *whole.hidden.shape[1:])
    assert none.attention is None
    assert none.neurons is None
    assert np.array_equal(none.logits, whole.logits)
    assert none.lens().ids.shape == (0, len(none.ids), 5)


def test_a_trace_is_pickled_without_its_model(model: Model, gpt2_folder: Path) -> None:
    trace = model.trace(TEXT, attention=True)
    again = pickle.loads(pickle.dumps(trace))
    for field in dataclasses.fields(trace):
        if not field.name.startswith("_") and field.name != "alternatives":
            np.testing.assert_array_equal(getattr(again, field.name), getattr(trace, field.name), field.name)
    assert np.array_equal(again.alternatives.pieces, trace.alternatives.pieces)
    assert again._repr_html_() == trace._repr_html_()
    for call in (again.lens, again.html, again.plot_lens, lambda: again.lens_logits(0)):
        with pytest.raises(ValueError, match=r"pickled without its model, .* with_model gives it back"):
            call()
    whole = again.with_model(Model.load(gpt2_folder, threads=1))
    assert np.array_equal(whole.lens_logits(0), trace.lens_logits(0))
    assert whole.html("m") == trace.html("m")
    assert copy.deepcopy(trace).with_model(model).html("m") == trace.html("m")


def test_a_trace_knows_its_model(model: Model, gpt2_folder: Path) -> None:
    again = pickle.loads(pickle.dumps(model.trace(TEXT)))
    for other in (Model.load(gpt2_folder, weights="float32", threads=1), Model.load("tiny", threads=1)):
        with pytest.raises(ValueError, match=r"(float32|'tiny').* did not make this trace"):
            again.with_model(other)
    with pytest.raises(TypeError, match="model must be of type Model, not str"):
        again.with_model("tiny")
    first = pickle.loads(pickle.dumps(model.trace(TEXT, layers=[0])))
    assert first.with_model(model).lens().ids.shape == (1, len(first.ids), 5)
