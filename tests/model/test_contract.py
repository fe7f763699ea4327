"""The numeric contract: logits depend on the tokens before them and on nothing else. So every comparison is `==`.

It drives the core itself, because the public API has no batches, and with random models of odd sizes.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import ModelConfig, Rope
from pygpt.errors import Cancelled, ContextOverflowError

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]

SIZES = {"n_vocab": 101, "n_ctx": 700, "n_layer": 2, "n_embd": 60, "n_head": 6, "head_dim": 10, "n_inner": 77}
GPT2 = ModelConfig(
    **SIZES, n_kv_head=6, norm="layer_norm", norm_eps=1e-5, activation="gelu_tanh", gated_mlp=False,
    qkv_bias=True, attn_out_bias=True, mlp_bias=True, learned_positions=True, rope=None, attn_scale=10**-0.5,
)  # fmt: skip
LLAMA = ModelConfig(
    **SIZES, n_kv_head=2, norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True,
    qkv_bias=False, attn_out_bias=False, mlp_bias=True, learned_positions=False, attn_scale=10**-0.5,
    rope=Rope(theta=10000.0, dim=8), tied_head=False,
)  # fmt: skip
INTERLEAVED = ModelConfig(
    **SIZES, n_kv_head=3, norm="rms_norm", norm_eps=1e-6, activation="gelu", gated_mlp=True,
    qkv_bias=True, attn_out_bias=False, mlp_bias=False, learned_positions=False, attn_scale=0.3,
    rope=Rope(theta=500.0, dim=10, interleaved=True), attn_scale_by_inverse_layer=True, tied_head=False,
)  # fmt: skip
MULTI_QUERY = ModelConfig(
    n_vocab=33, n_ctx=700, n_layer=1, n_embd=31, n_head=5, n_kv_head=1, head_dim=33, n_inner=17,
    norm="layer_norm", norm_eps=1e-5, activation="relu", gated_mlp=False, qkv_bias=False, attn_out_bias=True,
    mlp_bias=False, learned_positions=True, rope=Rope(theta=100.0, dim=32), attn_scale=0.2,
)  # fmt: skip
CONFIGS = {"gpt2": GPT2, "llama": LLAMA, "interleaved": INTERLEAVED, "multi-query": MULTI_QUERY}
FORMATS = [("float32", "float32"), ("float32", "float16"), ("bfloat16", "float32"), ("bfloat16", "float16")]

every_config = pytest.mark.parametrize("name", CONFIGS)
every_format = pytest.mark.parametrize(("weights", "kv"), FORMATS)


@functools.lru_cache(maxsize=64)
def engine(
    name: str, weights: str = "float32", kv: str = "float32", threads: int = 2, isa: str | None = None
) -> _core.Engine:
    """A model whose random tensors depend on `name` alone."""
    config, rng = CONFIGS[name], np.random.default_rng(0)
    builder = _core.EngineBuilder(config, weights=weights, kv=kv, threads=threads, isa=isa)  # type: ignore[arg-type]
    for tensor, shape in config.tensor_shapes().items():
        values = rng.standard_normal(shape) * (0.15 if len(shape) == 2 else 0.3) + ("norm.weight" in tensor)
        builder.add(tensor, values.astype(np.float32), "float32")
    return builder.build()


def ids(name: str, n: int, seed: int = 1) -> Ids:
    return np.random.default_rng(seed).integers(0, CONFIGS[name].n_vocab, n, dtype=np.int32)


def logits(model: _core.Engine, tokens: Ids, session: _core.Session | None = None) -> Floats:
    """Of every token, (T, n_vocab), in a session of their own unless one is given."""
    return model.forward([(session or model.session(), tokens)], output="all")[0]


def same(found: Floats, expected: Floats) -> bool:
    """Equal, and numbers: a model that gives NaN everywhere proves nothing."""
    return bool(np.isfinite(expected).all()) and np.array_equal(found, expected)


# --- what logits must not depend on -----------------------------------------------------------------------------------


@every_format
@every_config
def test_threads_and_instruction_sets(name: str, weights: str, kv: str) -> None:
    tokens = ids(name, 150)
    expected = logits(engine(name, weights, kv, 1, "scalar"), tokens)
    for isa in _core.isa_names():
        for threads in (1, 2, 3):
            assert same(logits(engine(name, weights, kv, threads, isa), tokens), expected), (isa, threads)


@every_format
@every_config
def test_chunks(name: str, weights: str, kv: str) -> None:
    model, tokens = engine(name, weights, kv), ids(name, 150)
    whole = logits(model, tokens)
    for size in (1, 7, 64):
        session = model.session()
        parts = [logits(model, tokens[i : i + size], session) for i in range(0, len(tokens), size)]
        assert same(np.concatenate(parts), whole), size
        assert session.length == len(tokens)


@every_config
def test_long_prompts_are_cut_into_steps(name: str) -> None:
    tokens = ids(name, 700)
    for isa in _core.isa_names()[:2]:
        model = engine(name, isa=isa)
        session = model.session()
        parts = [logits(model, tokens[:100], session), logits(model, tokens[100:], session)]
        assert same(np.concatenate(parts), logits(model, tokens))


@every_config
def test_the_cache_and_recomputing(name: str) -> None:
    model, tokens = engine(name, kv="float16"), ids(name, 140)
    session = model.session()
    for n, token in enumerate(tokens, start=1):
        cached = model.forward([(session, np.array([token], np.int32))])[0]
        if n in (1, 2, 63, 64, 65, 127, 128, 129, 140):
            assert same(cached, model.forward([(model.session(), tokens[:n])])[0]), n


@every_format
@every_config
def test_batches(name: str, weights: str, kv: str) -> None:
    """Sequences of other lengths, with and without a past, over the boundary of pages and of steps (512 rows)."""
    model = engine(name, weights, kv)
    lengths = [(0, 1), (0, 130), (63, 2), (100, 1), (0, 64), (5, 400), (128, 65), (0, 7)]
    prompts = [ids(name, past + new, seed) for seed, (past, new) in enumerate(lengths)]
    alone = [logits(model, prompt)[past:] for prompt, (past, _) in zip(prompts, lengths, strict=True)]
    for order in (range(len(lengths)), reversed(range(len(lengths)))):
        chosen = list(order)
        batch = []
        for i in chosen:
            session, past = model.session(), lengths[i][0]
            if past:
                logits(model, prompts[i][:past], session)
            batch.append((session, prompts[i][past:]))
        for i, found in zip(chosen, model.forward(batch, output="all"), strict=True):
            assert same(found, alone[i]), lengths[i]


@every_config
def test_steps_of_a_batch_decoding(name: str) -> None:
    model = engine(name)
    prompts = [ids(name, n + 20, seed=n) for n in (1, 30, 60, 64, 100)]
    sessions = [model.session() for _ in prompts]
    model.forward([(s, p[:-20]) for s, p in zip(sessions, prompts, strict=True)])
    for i in range(-20, 0):
        step = [(s, p[i:][:1]) for s, p in zip(sessions, prompts, strict=True)]
        found = model.forward(step)
    for last, prompt in zip(found, prompts, strict=True):
        assert same(last, logits(model, prompt)[-1])


@every_config
def test_outputs_agree(name: str) -> None:
    model, tokens = engine(name), [ids(name, 20), ids(name, 530, 2), ids(name, 1, 3)]
    outputs = {}
    for output in ("last", "all", "hidden"):
        outputs[output] = model.forward([(model.session(), t) for t in tokens], output=output)  # type: ignore[arg-type]
    for last, every, hidden, t in zip(outputs["last"], outputs["all"], outputs["hidden"], tokens, strict=True):
        assert every.shape == (len(t), CONFIGS[name].n_vocab)
        assert hidden.shape == (len(t), CONFIGS[name].n_embd)
        assert same(last, every[-1])
        session = model.session()
        parts = [model.forward([(session, t[i : i + 9])], output="hidden")[0] for i in range(0, len(t), 9)]
        assert same(np.concatenate(parts), hidden)


# --- forks and truncation ---------------------------------------------------------------------------------------------


@every_format
def test_forks_go_their_own_way(weights: str, kv: str) -> None:
    model = engine("llama", weights, kv)
    start, a, b = ids("llama", 100), ids("llama", 90, 2), ids("llama", 30, 3)
    session = model.session()
    logits(model, start, session)
    fork, twig = session.fork(), session.fork()
    assert (fork.length, twig.length) == (100, 100)
    found_a, found_b = model.forward([(session, a), (fork, b)], output="all")  # both write to the page they share
    assert same(found_a, logits(model, np.concatenate([start, a]))[100:])
    assert same(found_b, logits(model, np.concatenate([start, b]))[100:])
    assert same(logits(model, a, twig), found_a)
    assert same(logits(model, b, fork.fork()), logits(model, np.concatenate([start, b, b]))[130:])


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100, 128, 130])
def test_truncation_inside_shared_pages(length: int) -> None:
    model = engine("gpt2", kv="float16")
    tokens, other = ids("gpt2", 130), ids("gpt2", 80, 2)
    session = model.session()
    logits(model, tokens, session)
    fork = session.fork()
    fork.truncate(length)
    assert fork.length == length
    expected = logits(model, np.concatenate([tokens[:length], other]))[length:]
    assert same(logits(model, other, fork), expected)
    assert same(logits(model, other, session), logits(model, np.concatenate([tokens, other]))[130:])
    session.truncate(length)  # its own pages now, which held other keys before
    assert same(logits(model, other, session), expected)


def test_truncation_to_a_wrong_length() -> None:
    session = engine("gpt2").session()
    logits(engine("gpt2"), ids("gpt2", 5), session)
    for length in (-1, 6):
        with pytest.raises(ValueError, match="between 0 and 5"):
            session.truncate(length)
    assert session.length == 5


# --- errors -----------------------------------------------------------------------------------------------------------


def i32(*values: int) -> Ids:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (i32(), ValueError, "no tokens"),
        (i32(5, 101), ValueError, "token 101 is outside the vocabulary of 101"),
        (i32(-1), ValueError, "token -1"),
        (i32(2**31 - 1), ValueError, "token 2147483647"),
        (np.zeros(641, np.int32), ContextOverflowError, "60 tokens and 641 more exceed the context of 700"),
        (np.zeros((2, 2), np.int32), ValueError, "1 dimension"),
    ],
)
def test_a_refused_call_changes_no_session(tokens: Ids, error: type[Exception], message: str) -> None:
    model, prompt = engine("gpt2"), ids("gpt2", 200)
    good, bad = model.session(), model.session()
    logits(model, prompt[:70], good)
    logits(model, prompt[:60], bad)
    for batch in ([(good, prompt[70:]), (bad, tokens)], [(bad, tokens), (good, prompt[70:])]):
        with pytest.raises(error, match=message):
            model.forward(batch)
    assert (good.length, bad.length) == (70, 60)
    assert same(logits(model, prompt[70:], good), logits(model, prompt)[70:])
    assert same(logits(model, prompt[60:], bad), logits(model, prompt)[60:])


def test_sessions_that_do_not_fit_the_call() -> None:
    model, other = engine("gpt2"), engine("llama")
    session, foreign = model.session(), other.session()
    with pytest.raises(ValueError, match="batch is empty"):
        model.forward([])
    with pytest.raises(ValueError, match="twice"):
        model.forward([(session, i32(1)), (session, i32(2))])
    with pytest.raises(ValueError, match="another model"):
        model.forward([(session, i32(1)), (foreign, i32(2))])
    with pytest.raises(ValueError, match="'last', 'all', 'hidden'"):
        model.forward([(session, i32(1))], output="first")  # type: ignore[arg-type]
    assert (session.length, foreign.length) == (0, 0)
    assert same(logits(model, i32(3, 4), session), logits(model, i32(3, 4)))


def test_cancelling() -> None:
    model, prompt = engine("llama", isa="scalar", threads=1), ids("llama", 700)
    session, flag = model.session(), _core.CancelFlag()
    logits(model, prompt[:10], session)
    assert not flag.is_set()
    timer = threading.Timer(0.02, flag.set)
    timer.start()

    def until_cancelled() -> None:  # one long prompt takes many times the timer's delay, but who knows
        while True:
            model.forward([(session, prompt[10:])], cancel=flag)
            session.truncate(10)

    with pytest.raises(Cancelled):
        until_cancelled()
    timer.join()
    assert session.length == 10
    with pytest.raises(Cancelled):  # a flag stays set
        model.forward([(session, prompt[10:])], cancel=flag)
    assert same(model.forward([(session, prompt[10:])])[0], logits(model, prompt)[-1])


# --- threads and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_one_model_from_many_threads(threads: int) -> None:
    model = engine("llama", threads=threads)
    prompts = [ids("llama", n, seed=n) for n in (30, 65, 128, 200)]
    expected = [logits(model, prompt) for prompt in prompts]

    def work(i: int) -> bool:
        good = True
        for size in (1 + 3 * i, 64, 200):
            session = model.session()
            parts = [logits(model, prompts[i][at : at + size], session) for at in range(0, len(prompts[i]), size)]
            good &= same(np.concatenate(parts), expected[i])
        return good

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [True] * 4


FORK = """
import os, signal, sys
import numpy as np
from pygpt import _core
from pygpt.config import ModelConfig
config = ModelConfig(
    n_vocab=101, n_ctx=200, n_layer=2, n_embd=60, n_head=6, n_kv_head=6, head_dim=10, n_inner=77, norm="layer_norm",
    norm_eps=1e-5, activation="gelu", gated_mlp=False, qkv_bias=False, attn_out_bias=False, mlp_bias=False,
    learned_positions=True, rope=None, attn_scale=0.3,
)
rng = np.random.default_rng(0)
builder = _core.EngineBuilder(config, weights="float32", kv="float16", threads=3, isa=None)
for name, shape in config.tensor_shapes().items():
    builder.add(name, rng.standard_normal(shape).astype(np.float32), "float32")
model = builder.build()
prompt = rng.integers(0, 101, 150, dtype=np.int32)
session = model.session()
model.forward([(session, prompt[:100])])
expected = model.forward([(model.session(), prompt)])[0]
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = np.array_equal(model.forward([(session, prompt[100:])])[0], expected)
    again = np.array_equal(model.forward([(model.session(), prompt)])[0], expected)
    os._exit(0 if same and again else 1)
status = os.waitpid(child, 0)[1]
same = np.array_equal(model.forward([(session, prompt[100:])])[0], expected)
sys.exit(0 if status == 0 and same else f"status {status}, parent right: {same}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_child_process_computes_the_same() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# --- what is drawn from logits ----------------------------------------------------------------------------------------


def test_log_softmax_and_draws() -> None:
    rows = np.random.default_rng(4).normal(0, 4, (3, 1013)).astype(np.float32)
    sampler = _core.Sampler(temperature=0.8, top_k=200, top_p=0.95, min_p=0.001, repetition_penalty=1.2, seed=2**64 - 1)

    def results(isa: str) -> tuple[Floats, Sequence[int]]:
        model = engine("gpt2", isa=isa)
        every = model.log_softmax(rows)
        assert same(model.log_softmax(rows[1]), every[1])
        return every, [sampler.draw(model, rows[i % 3], i32(5, 7), i, 2**40 + i) for i in range(60)]

    expected, draws = results("scalar")
    for isa in _core.isa_names():
        found, drawn = results(isa)
        assert same(found, expected)
        assert drawn == draws
    assert len(set(draws)) > 10
    assert np.allclose(np.exp(expected.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)
