"""The numeric contract: logits depend on the tokens before them and on nothing else. So every comparison is `==`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core

every_config = pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "llama",
        "interleaved",
        "multi-query",
        "post-norm",
        "sandwich",
        "parallel",
        "one norm",
        "windows",
        "alibi",
        "scaled",
        "narrow",
        "wide",
    ],
)


# --- what logits must not depend on -----------------------------------------------------------------------------------


@every_config
def test_threads_and_instruction_sets(cores, name: str, formats: tuple[str, str]) -> None:
    weights, kv = formats
    tokens = cores.ids(name, 150)
    expected = cores.logits(cores.engine(name, weights, kv, 1, "scalar"), tokens)
    for isa in _core.isa_names():
        for threads in (1, 2, 3):
            found = cores.logits(cores.engine(name, weights, kv, threads, isa), tokens)
            assert cores.same(found, expected), (isa, threads)


@every_config
def test_backends_and_many_threads(cores, name: str) -> None:
    """Also far more threads than cores, and than a product has parts."""
    tokens, weights, kv = cores.ids(name, 70), "int8", "float16"
    expected = cores.logits(cores.engine(name, weights, kv, 1), tokens)
    for backend in _core.threads_backends():
        for threads in (16, 32) if backend == "own" else (3, 32):
            model = cores.engine(name, weights, kv, threads, None, backend)
            assert model.threads_backend == backend
            session = model.session()
            parts = [cores.logits(model, part, session) for part in (tokens[:61], tokens[61:69], tokens[69:])]
            assert cores.same(np.concatenate(parts), expected), (backend, threads)


@every_config
def test_chunks(cores, name: str, formats: tuple[str, str]) -> None:
    weights, kv = formats
    model, tokens = cores.engine(name, weights, kv), cores.ids(name, 150)
    whole = cores.logits(model, tokens)
    for size in (1, 7, 64):
        session = model.session()
        parts = [cores.logits(model, tokens[i : i + size], session) for i in range(0, len(tokens), size)]
        assert cores.same(np.concatenate(parts), whole), size
        assert session.length == len(tokens)


@every_config
def test_long_prompts_are_cut_into_steps(cores, name: str) -> None:
    tokens = cores.ids(name, 700)
    for isa in _core.isa_names()[:2]:
        model = cores.engine(name, isa=isa)
        session = model.session()
        parts = [cores.logits(model, tokens[:100], session), cores.logits(model, tokens[100:], session)]
        assert cores.same(np.concatenate(parts), cores.logits(model, tokens))


@every_config
def test_the_cache_and_recomputing(cores, name: str) -> None:
    model, tokens = cores.engine(name, kv="int8" if name in ("llama", "alibi") else "float16"), cores.ids(name, 140)
    session = model.session()
    for n, token in enumerate(tokens, start=1):
        cached = model.forward([(session, np.array([token], np.int32))])[0]
        if n in (1, 2, 63, 64, 65, 127, 128, 129, 140):
            assert cores.same(cached, model.forward([(model.session(), tokens[:n])])[0]), n


@every_config
def test_batches(cores, name: str, formats: tuple[str, str]) -> None:
    """Sequences of other lengths, with and without a past, over the boundary of pages and of steps (256 rows)."""
    weights, kv = formats
    model = cores.engine(name, weights, kv)
    lengths = [(0, 1), (0, 130), (63, 2), (100, 1), (0, 64), (5, 400), (128, 65), (0, 7)]
    prompts = [cores.ids(name, past + new, seed) for seed, (past, new) in enumerate(lengths)]
    alone = [cores.logits(model, prompt)[past:] for prompt, (past, _) in zip(prompts, lengths, strict=True)]
    for order in (range(len(lengths)), reversed(range(len(lengths)))):
        chosen = list(order)
        batch = []
        for i in chosen:
            session, past = model.session(), lengths[i][0]
            if past:
                cores.logits(model, prompts[i][:past], session)
            batch.append((session, prompts[i][past:]))
        for i, found in zip(chosen, model.forward(batch, output="all"), strict=True):
            assert cores.same(found, alone[i]), lengths[i]


@every_config
def test_steps_of_a_batch_decoding(cores, name: str) -> None:
    model = cores.engine(name)
    prompts = [cores.ids(name, n + 20, seed=n) for n in (1, 30, 60, 64, 100)]
    sessions = [model.session() for _ in prompts]
    model.forward([(s, p[:-20]) for s, p in zip(sessions, prompts, strict=True)])
    for i in range(-20, 0):
        step = [(s, p[i:][:1]) for s, p in zip(sessions, prompts, strict=True)]
        found = model.forward(step)
    for last, prompt in zip(found, prompts, strict=True):
        assert cores.same(last, cores.logits(model, prompt)[-1])


@every_config
def test_outputs_agree(cores, name: str) -> None:
    model, tokens = cores.engine(name), [cores.ids(name, 20), cores.ids(name, 530, 2), cores.ids(name, 1, 3)]
    outputs = {}
    for output in ("last", "all", "hidden"):
        outputs[output] = model.forward([(model.session(), t) for t in tokens], output=output)  # type: ignore[arg-type]
    for last, every, hidden, t in zip(outputs["last"], outputs["all"], outputs["hidden"], tokens, strict=True):
        assert every.shape == (len(t), cores.configs[name].n_vocab)
        assert hidden.shape == (len(t), cores.configs[name].n_embd)
        assert cores.same(last, every[-1])
        session = model.session()
        parts = [model.forward([(session, t[i : i + 9])], output="hidden")[0] for i in range(0, len(t), 9)]
        assert cores.same(np.concatenate(parts), hidden)


# --- what is drawn from logits ----------------------------------------------------------------------------------------


def test_log_softmax_and_draws(cores) -> None:
    rows = np.random.default_rng(4).normal(0, 4, (3, 1013)).astype(np.float32)
    history = np.array([5, 7], np.int32)
    options: dict[str, Any] = {"temperature": 0.8, "top_k": 200, "top_p": 0.95, "min_p": 0.001, "seed": 2**64 - 1}
    options |= {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logit_bias": {9: 3.5}}
    sampler = _core.Sampler(**options)

    def results(isa: str) -> tuple[NDArray[np.float32], Sequence[int]]:
        model = cores.engine("gpt2", isa=isa)
        every = model.log_softmax(rows)
        assert cores.same(model.log_softmax(rows[1]), every[1])
        return every, _core.draw(model, [(sampler, rows[i % 3], history, i, 2**40 + i, 0, None) for i in range(60)])

    expected, draws = results("scalar")
    for isa in _core.isa_names():
        found, drawn = results(isa)
        assert cores.same(found, expected)
        assert drawn == draws
    assert len(set(draws)) > 10
    assert np.allclose(np.exp(expected.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)


def test_ids_without_a_logit_are_refused(cores) -> None:
    """Also where another thread writes to the array while the token is drawn without Python's lock."""
    model, row = cores.engine("gpt2"), np.zeros(50, np.float32)
    options: dict[str, Any] = dict.fromkeys(_core.Sampler.options)
    penalties = {"repetition_penalty": 2.0, "presence_penalty": 0.5, "frequency_penalty": 0.5}
    sampler = _core.Sampler(**options | {"temperature": 0.0, **penalties, "logit_bias": {}, "seed": 0})
    for odd in (-1, 50, 2**31 - 1):
        with pytest.raises(ValueError, match=f"history holds {odd}, outside the 50 logits"):
            _core.draw(model, [(sampler, row, np.array([3, odd], np.int32), 0, 0, 0, None)])
    with pytest.raises(ValueError, match="history must be one row of ids"):
        _core.draw(model, [(sampler, row, np.zeros((1, 2), np.int32), 0, 0, 0, None)])
    history, done = np.zeros(20_000, np.int32), threading.Event()

    def disturb() -> None:
        while not done.is_set():
            history[-1] = -(2**31)
            history[-1] = 0

    row[:2] = 3.0, 2.0
    other = threading.Thread(target=disturb)
    other.start()
    for _ in range(100):
        with contextlib.suppress(ValueError):  # what was checked may have been the wrong id
            assert _core.draw(model, [(sampler, row, history, 0, 0, 0, None)]) == [1]
    done.set()
    other.join()
