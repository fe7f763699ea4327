"""Sessions: forks, truncation, errors that leave them as they were, many threads, child processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled, ContextOverflowError

Ids = NDArray[np.int32]


# --- forks and truncation ---------------------------------------------------------------------------------------------


def test_forks_go_their_own_way(cores, formats: tuple[str, str]) -> None:
    weights, kv = formats
    model = cores.engine("llama", weights, kv)
    start, a, b = cores.ids("llama", 100), cores.ids("llama", 90, 2), cores.ids("llama", 30, 3)
    session = model.session()
    cores.logits(model, start, session)
    fork, twig = session.fork(), session.fork()
    assert (fork.length, twig.length) == (100, 100)
    found_a, found_b = model.forward([(session, a), (fork, b)], output="all")  # both write to the page they share
    assert cores.same(found_a, cores.logits(model, np.concatenate([start, a]))[100:])
    assert cores.same(found_b, cores.logits(model, np.concatenate([start, b]))[100:])
    assert cores.same(cores.logits(model, a, twig), found_a)
    assert cores.same(cores.logits(model, b, fork.fork()), cores.logits(model, np.concatenate([start, b, b]))[130:])


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100, 128, 130])
def test_truncation_inside_shared_pages(cores, length: int) -> None:
    model = cores.engine("gpt2", kv="float16")
    tokens, other = cores.ids("gpt2", 130), cores.ids("gpt2", 80, 2)
    session = model.session()
    cores.logits(model, tokens, session)
    fork = session.fork()
    fork.truncate(length)
    assert fork.length == length
    expected = cores.logits(model, np.concatenate([tokens[:length], other]))[length:]
    assert cores.same(cores.logits(model, other, fork), expected)
    assert cores.same(cores.logits(model, other, session), cores.logits(model, np.concatenate([tokens, other]))[130:])
    session.truncate(length)  # its own pages now, which held other keys before
    assert cores.same(cores.logits(model, other, session), expected)


def test_truncation_to_a_wrong_length(cores) -> None:
    session = cores.engine("gpt2").session()
    cores.logits(cores.engine("gpt2"), cores.ids("gpt2", 5), session)
    for length in (-1, 6):
        with pytest.raises(ValueError, match="between 0 and 5"):
            session.truncate(length)
    assert session.length == 5


def test_truncation_behind_windows(cores) -> None:
    """Layers with a window forget what no later token sees, so only some lengths can be gone back to."""
    model, tokens, other = cores.engine("windows"), cores.ids("windows", 650), cores.ids("windows", 50, 2)
    session = model.session()
    cores.logits(model, tokens, session)
    for length in (1, 64, 200):
        with pytest.raises(ValueError, match=f"by up to 256 tokens from its greatest length, not to {length}"):
            session.truncate(length)
    assert session.length == 650
    for length in (650 - 256, 0):
        session.truncate(length)
        expected = cores.logits(model, np.concatenate([tokens[:length], other]))[length:]
        assert cores.same(cores.logits(model, other, session), expected)


@pytest.mark.parametrize("name", ["llama", "windows"])
def test_tentative_tokens_join_when_they_are_kept(cores, formats: tuple[str, str], name: str) -> None:
    model = cores.engine(name, *formats)
    tokens, other = cores.ids(name, 400), cores.ids(name, 60, 2)
    whole, session = cores.logits(model, tokens), model.session()
    cores.logits(model, tokens[:100], session)
    (found,) = model.forward([(session, tokens[100:180])], output="all", tentative=79)
    assert cores.same(found, whole[100:180])
    assert session.length == 101
    session.keep(30)
    session.keep(0)
    with pytest.raises(ValueError, match="49 tentative tokens, not 50"):
        session.keep(50)
    assert session.length == 131
    model.forward([(session, other), (model.session(), other)], output="none", tentative=[60, 0])
    assert session.length == 131
    with pytest.raises(ValueError, match="0 tentative tokens, not 1"):
        session.fork().keep(1)
    assert cores.same(cores.logits(model, tokens[131:], session), whole[131:])
    with pytest.raises(ValueError, match="0 tentative tokens, not 1"):
        session.keep(1)
    with pytest.raises(ValueError, match="61 of 60 tokens cannot be tentative"):
        model.forward([(session, other)], tentative=61)
    with pytest.raises(ValueError, match="257 of 260 tokens cannot be tentative, and at most 256"):
        model.forward([(model.session(), np.resize(other, 260))], tentative=257)
    with pytest.raises(ValueError, match="tentative must be one or one for each of the 1 sequences, not 2"):
        model.forward([(session, other)], tentative=[1, 1])


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
def test_a_refused_call_changes_no_session(cores, tokens: Ids, error: type[Exception], message: str) -> None:
    model, prompt = cores.engine("gpt2"), cores.ids("gpt2", 200)
    good, bad = model.session(), model.session()
    cores.logits(model, prompt[:70], good)
    cores.logits(model, prompt[:60], bad)
    for batch in ([(good, prompt[70:]), (bad, tokens)], [(bad, tokens), (good, prompt[70:])]):
        with pytest.raises(error, match=message):
            model.forward(batch)
    assert (good.length, bad.length) == (70, 60)
    assert cores.same(cores.logits(model, prompt[70:], good), cores.logits(model, prompt)[70:])
    assert cores.same(cores.logits(model, prompt[60:], bad), cores.logits(model, prompt)[60:])


def test_sessions_that_do_not_fit_the_call(cores) -> None:
    model, other = cores.engine("gpt2"), cores.engine("llama")
    session, foreign = model.session(), other.session()
    with pytest.raises(ValueError, match="batch is empty"):
        model.forward([])
    with pytest.raises(ValueError, match="twice"):
        model.forward([(session, i32(1)), (session, i32(2))])
    with pytest.raises(ValueError, match="another model"):
        model.forward([(session, i32(1)), (foreign, i32(2))])
    for wrong in ("first", ["first"]):
        with pytest.raises(ValueError, match="output='first' is not one of 'none', 'last', 'all', 'hidden'"):
            model.forward([(session, i32(1))], output=wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="output must be one or one for each of the 1 sequences, not 2"):
        model.forward([(session, i32(1))], output=["last", "all"])
    with pytest.raises(ValueError, match="cancel must be one or one for each of the 1 sequences, not 0"):
        model.forward([(session, i32(1))], cancel=[])
    assert (session.length, foreign.length) == (0, 0)
    assert cores.same(cores.logits(model, i32(3, 4), session), cores.logits(model, i32(3, 4)))


def test_cancelling(cores) -> None:
    model, prompt = cores.engine("llama", isa="scalar", threads=1), cores.ids("llama", 700)
    session, flag = model.session(), _core.CancelFlag()
    cores.logits(model, prompt[:10], session)
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
    assert cores.same(model.forward([(session, prompt[10:])])[0], cores.logits(model, prompt)[-1])


def test_each_sequence_has_its_own_output(cores) -> None:
    model = cores.engine("llama", "int8", "float16")
    kinds: list[Literal["none", "last", "all", "hidden"]] = ["last", "hidden", "none", "all", "last", "none", "hidden"]
    prompts = [cores.ids("llama", n, n) for n in (5, 300, 70, 20, 1, 2, 90)]
    sessions = [model.session() for _ in kinds]
    found = model.forward(list(zip(sessions, prompts, strict=True)), output=kinds)
    for kind, prompt, session, rows in zip(kinds, prompts, sessions, found, strict=True):
        assert session.length == len(prompt)
        assert rows.size == 0 if kind == "none" else cores.same(
            rows, model.forward([(model.session(), prompt)], output=kind)[0]
        )  # fmt: skip


def test_cancelling_one_of_three(cores) -> None:
    model, prompts = cores.engine("gpt2"), [cores.ids("gpt2", n, n) for n in (400, 90, 300)]
    sessions, flag = [model.session() for _ in prompts], _core.CancelFlag()
    model.forward([(session, prompts[0][:10]) for session in sessions])
    flag.set()
    batch = list(zip(sessions, prompts, strict=True))
    found = model.forward(batch, output=["last", "all", "hidden"], cancel=[None, flag, _core.CancelFlag()])
    assert [session.length for session in sessions] == [410, 10, 310]
    assert found[1] is None
    for i, kind in ((0, "last"), (2, "hidden")):
        alone = model.session()
        model.forward([(alone, prompts[0][:10])], output="none")
        assert cores.same(found[i], model.forward([(alone, prompts[i])], output=kind)[0])  # type: ignore[call-overload]
    again = model.forward([batch[1]], output="all", cancel=[None])[0]
    assert cores.same(again, cores.logits(model, np.concatenate([prompts[0][:10], prompts[1]]))[10:])


# --- threads and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_one_model_from_many_threads(cores, threads: int) -> None:
    model = cores.engine("llama", threads=threads)
    prompts = [cores.ids("llama", n, seed=n) for n in (30, 65, 128, 200)]
    expected = [cores.logits(model, prompt) for prompt in prompts]

    def work(i: int) -> bool:
        good = True
        for size in (1 + 3 * i, 64, 200):
            session = model.session()
            parts = [cores.logits(model, prompts[i][at : at + size], session) for at in range(0, len(prompts[i]), size)]
            good &= cores.same(np.concatenate(parts), expected[i])
        return good

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [True] * 4


def test_the_callers_array_may_change_meanwhile(cores) -> None:
    """Another thread writes while a long prompt is computed: its values count as they were when the call began."""
    model, prompt = cores.engine("llama", isa="scalar", threads=1), cores.ids("llama", 700)
    expected = model.forward([(model.session(), prompt)])[0]
    done = threading.Event()

    def scribble(ids: NDArray[np.int32]) -> None:
        while not done.wait(0.001):
            ids[:] = 2**30  # no token at all

    for delay in (0.005, 0.02, 0.05):
        ids = prompt.copy()
        timer = threading.Timer(delay, scribble, [ids])
        timer.start()
        found = model.forward([(model.session(), ids)])[0]
        done.set()
        timer.join()
        done.clear()
        assert cores.same(found, expected)


MODEL = """
import os, signal, sys, threading, time
import numpy as np
from pygpt import _core
from pygpt.config import LayerConfig, ModelConfig
config = ModelConfig(
    n_vocab=101, n_ctx=200, n_embd=60, n_head=6, n_kv_head=6, head_dim=10, n_inner=77, norm="layer_norm",
    norm_eps=1e-5, activation="gelu", gated_mlp=False, qkv_bias=False, attn_out_bias=False, mlp_bias=False,
    learned_positions=True, layers=LayerConfig(attn_scale=0.3).repeated(2),
)
rng = np.random.default_rng(0)
builder = _core.EngineBuilder(config, weights="float32", kv="float16", threads=3, isa=None)
for name, shape in config.tensor_shapes().items():
    builder.add(name, rng.standard_normal(shape).astype(np.float32), "float32")
model = builder.build()
"""
FORK = f"""{MODEL}
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
sys.exit(0 if status == 0 and same else f"status {{status}}, parent right: {{same}}")
"""
# Children that are born while other threads are somewhere in the middle of a call.
MANY_FORKS = f"""{MODEL}
prompt = rng.integers(0, 101, 20, dtype=np.int32)
expected = model.forward([(model.session(), prompt)])[0]
done = False

def work():
    while not done:
        model.forward([(model.session(), prompt)])

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
bad = 0
for _ in range(30):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if np.array_equal(model.forward([(model.session(), prompt)])[0], expected) else 1)
    bad += os.waitpid(child, 0)[1] != 0
done = True
for thread in threads:
    thread.join()
sys.exit(bad)
"""
# The interpreter ends while the model lives, and its threads sleep or even work.
END = f"""{MODEL}
ids = np.arange(100, dtype=np.int32)
model.forward([(model.session(), ids)])
"""
END_AT_WORK = f"""{END}
def work():
    while True:
        model.log_softmax(model.forward([(model.session(), ids)], output="all")[0])

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
END_OF_A_CYCLE = f"""{END}
cycle = [model, model.session()]
cycle.append(cycle)
"""


@pytest.mark.parametrize("script", [FORK, MANY_FORKS, END, END_AT_WORK, END_OF_A_CYCLE])
def test_processes_begin_and_end_well(script: str, elsewhere: dict[str, Any]) -> None:
    if "fork" in script and sys.platform == "win32":
        pytest.skip("no fork")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **elsewhere)
    assert done.returncode == 0, done.stderr
