"""bfloat16 factors: a faster product whose loss stays near float32's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import pygpt
from pygpt import _core
from pygpt.config import ModelConfig
from pygpt.training import Plan, Recipe, Watcher, functions, resume
from pygpt.training.architecture import architecture
from pygpt.training.kernels import Kernels
from pygpt.training.network import Network
from pygpt.training.optimizer import AdamW
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Array, Drop, Heads


def has_bfloat16() -> bool:
    return "avx512" in _core.isa_names() and _core.cpu_features()["avx512_bf16"]


def test_where_there_is_none_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision='bfloat16' needs AVX512_BF16 .* use 'float32'"):
        Kernels(threads=1, isa="scalar", precision="bfloat16")
    with pytest.raises(ValueError, match=r"precision must be 'float32' or 'bfloat16', not 'float16'"):
        Kernels(threads=1, precision="float16")  # type: ignore[arg-type]


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this machine has no AVX512_BF16")


@needs_bfloat16
def test_loss_and_gradients_are_near_those_of_float32(config: ModelConfig) -> None:
    """Each factor is off by at most one part in 2^8, and by one in 2^9 in the root mean square; a product of
    independent terms by about that of its two factors. A block is four products deep, forward and backward, and
    attention's two more. The bounds are ten times one part in 2^9 for each of the four, if errors are independent."""
    generator = np.random.default_rng(3)
    ids, targets = generator.integers(0, config.n_vocab, (2, 2, 6), np.int32)
    params = Parameters(config)
    params.flat[:] = generator.standard_normal(len(params.flat)) * 0.3
    found = {}
    for precision in ("float32", "bfloat16"):
        grads = Parameters(config)
        network = Network(config, Kernels(threads=2, precision=precision))
        nats, count = network.loss_and_gradients(params, grads, ids, targets)
        found[precision] = nats / count, grads.flat
    n_products = 8 * config.n_layer + 3
    bound = 10 * 2.0**-9 * n_products**0.5
    loss, gradients = found["float32"]
    rounded_loss, rounded_gradients = found["bfloat16"]
    assert 0 < abs(rounded_loss - loss) < bound * loss
    assert np.linalg.norm(rounded_gradients - gradients) < bound * np.linalg.norm(gradients)


def test_training_with_a_mean_in_bfloat16_is_near_float32() -> None:
    """The mean alone is rounded here, at each step by less than one part in 2^9 in the root mean square, of which the
    next steps keep 0.9, 0.81, ...: by less than 2^-9 sqrt(1 / (1 - 0.81)) = 0.5% together. So much are the steps off,
    and what the loss has fallen by, even if all errors went in one direction."""
    config = architecture("gpt2", n_vocab=29, n_ctx=16, n_layer=2, n_embd=32, n_head=2)
    following = np.random.default_rng(1).permutation(29).astype(np.int32)
    losses = {}
    for precision in ("float32", "bfloat16"):
        kernels: Any = Kernels(threads=1)
        kernels.precision = precision
        params, grads, network = Parameters(config), Parameters(config), Network(config, kernels)
        params.initialise(0)
        recipe = Recipe(steps=40, batch=8, learning_rate=3e-3, warmup=4)
        optimizer = AdamW(kernels, params.flat, params.n_decayed, recipe)
        assert optimizer.m.dtype == (np.float32 if precision == "float32" else np.uint16)
        found = losses[precision] = []
        for step in range(1, 41):
            ids = np.random.default_rng(step).integers(0, 29, (8, 16), np.int32)
            grads.flat[:] = 0.0
            nats, count = network.loss_and_gradients(params, grads, ids, following[ids])
            optimizer.update(grads.flat, optimizer.norm(grads.flat), step)
            found.append(nats / count)
    fallen = losses["float32"][0] - losses["float32"][-1]
    assert fallen > 1.0
    assert 0 < np.abs(np.subtract(losses["bfloat16"], losses["float32"])).max() < 0.005 * fallen


@needs_bfloat16
def test_a_run_is_planned_and_goes_on_with_a_mean_in_bfloat16(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The cat sat on the mat, and the dog sat by the door.\n" * 40)
    options: dict[str, Any] = {"tokenizer": "char", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_ctx": 16, "threads": 1}
    options |= {"steps": 8, "batch": 4, "learning_rate": 0.01, "eval_interval": 4, "eval_windows": 4}
    options |= {"backend": "kernels-bf16"}
    plans: dict[str, Plan] = {}

    class Watching(Watcher):
        def __init__(self, name: str, steps: int) -> None:
            self.name, self.left = name, steps

        def planned(self, plan: Plan) -> None:
            plans[self.name] = plan

        def stepped(self, record: Any, progress: Any) -> None:
            self.left -= 1

        def stop(self) -> bool:
            return self.left < 0

    for name, steps in (("whole", 99), ("run", 5)):
        pygpt.pretrain(tmp_path / "text.txt", tmp_path / name, **options, watcher=Watching(name, steps))
    assert resume(tmp_path / "run", threads=2).finished
    whole, run = ((tmp_path / name / "state.safetensors") for name in ("whole", "run"))
    with safe_open(whole, "numpy") as state:
        assert [state.get_slice(name).get_dtype() for name in ("params", "m", "v")] == ["F32", "BF16", "F32"]
    n_bytes = (4 + 2 + 4) * plans["whole"].n_trained  # behind what the header says of the time
    assert whole.read_bytes()[-n_bytes:] == run.read_bytes()[-n_bytes:]
    float32 = options | {"backend": "kernels", "steps": 1}
    pygpt.pretrain(tmp_path / "text.txt", tmp_path / "float32", **float32, watcher=Watching("float32", 99))
    assert plans["float32"].memory_bytes - plans["whole"].memory_bytes == 2 * plans["whole"].n_trained


# Attention.

ATTENTION = [
    (1, 1, 1, 1, 3), (2, 17, 4, 2, 3), (1, 65, 2, 1, 64), (2, 65, 4, 2, 16), (1, 130, 2, 2, 80), (2, 130, 2, 1, 64),
]  # fmt: skip
RULES = [(0, 0.0, False), (1, 0.0, False), (70, 0.0, True), (17, 3.0, False), (0, 0.8, True)]


def rounded(x: Array) -> Array:
    """To bfloat16, to nearest, ties to even; finite values only."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def problem(
    case: tuple[int, int, int, int, int], rule: tuple[int, float, bool], dropped: bool
) -> tuple[Array, Array, Heads]:
    """qkv, dout and the heads."""
    n_batch, n_token, n_head, n_kv_head, head_dim = case
    generator = np.random.default_rng(7)
    qkv = generator.standard_normal((n_batch * n_token, (n_head + 2 * n_kv_head) * head_dim), np.float32)
    dout = generator.standard_normal((n_batch * n_token, n_head * head_dim), np.float32)
    slopes = np.linspace(0.01, 0.5, n_head).astype(np.float32) if rule[2] else None
    drop = Drop(0.2, 2**63 + 9) if dropped else None
    return qkv, dout, Heads(n_batch, n_head, n_kv_head, head_dim**-0.5, drop, *rule[:2], slopes)


@needs_bfloat16
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_of_rounded_factors(
    case: tuple[int, int, int, int, int], rule: tuple[int, float, bool], dropped: bool
) -> None:
    """Beside NumPy in float64, of queries, keys, values and gradients that bfloat16 can hold. What is left to round
    are the softmax's weights and the gradients of the scores. Each term of the sums they are factors of is then off by
    at most u = 2^-8 of itself, and evenly within +-ulp / 2, by less than u / sqrt(3) in the root mean square. The other
    factor is drawn with mean 0, so that squares add up, of terms and of errors alike: a sum's error is less than
    u / sqrt(3) of it, as a norm. A score's gradient is a weight times (dp - dout . out), and out is off as well: a
    second error, no larger over all queries since out is a mean of values, and sqrt(2 / 3) u together. The bound is u;
    float32's sums add less than a thousandth of it."""
    qkv, dout, heads = problem(case, rule, dropped)
    qkv, dout = rounded(qkv), rounded(dout)
    kernels = Kernels(threads=2, precision="bfloat16")
    out, lse = kernels.attention(qkv, heads)
    dqkv = kernels.attention_backward(dout, qkv, out, lse, heads)
    qkv64, dout64 = qkv.astype(np.float64), dout.astype(np.float64)
    out64, lse64 = functions.attention(qkv64, heads)
    dqkv64 = functions.attention_backward(dout64, qkv64, out64, lse64, heads)
    np.testing.assert_allclose(lse, lse64, rtol=0, atol=2.0**-12)  # no rounded factor but what bfloat16 holds
    for found, expected in ((out, out64), (dqkv, dqkv64)):
        assert np.linalg.norm(found - expected) <= 2 * 2.0**-9 * np.linalg.norm(expected) + 1e-6


@needs_bfloat16
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_rounds_to_nearest_even_as_it_packs(case: tuple[int, int, int, int, int]) -> None:
    qkv, dout, heads = problem(case, (0, 0.0, False), True)
    kernels, dout = Kernels(threads=1, precision="bfloat16"), rounded(dout)
    tie = np.frombuffer(np.array([0x3F808000, 0x3F818000], np.uint32), np.float32)  # one goes down, one up
    qkv[0, :2] = tie
    out, lse = kernels.attention(qkv, heads)
    for found, expected in zip((out, lse), kernels.attention(rounded(qkv), heads), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        kernels.attention_backward(dout, qkv, out, lse, heads),
        kernels.attention_backward(dout, rounded(qkv), out, lse, heads),
    )


@needs_bfloat16
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", [c for c in ATTENTION if c[0] > 1])
def test_attention_is_the_same_for_all_threads_and_batches(
    case: tuple[int, int, int, int, int], rule: tuple[int, float, bool]
) -> None:
    qkv, dout, heads = problem(case, rule, False)

    def run(threads: int, rows: slice, n_batch: int) -> tuple[Array, Array, Array]:
        kernels, alone = Kernels(threads=threads, precision="bfloat16"), heads._replace(n_batch=n_batch)
        out, lse = kernels.attention(qkv[rows], alone)
        return out, lse, kernels.attention_backward(dout[rows], qkv[rows], out, lse, alone)

    n_batch, n_token = case[:2]
    expected = run(1, slice(None), n_batch)
    for found, wanted in zip(run(2, slice(None), n_batch), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    out, lse, dqkv = run(1, slice(n_token, 2 * n_token), 1)
    np.testing.assert_array_equal(out, expected[0][n_token : 2 * n_token])
    np.testing.assert_array_equal(lse, expected[1][1:2])
    np.testing.assert_array_equal(dqkv, expected[2][n_token : 2 * n_token])
